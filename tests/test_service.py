"""The front door from start to drain, on a Clock and fake transports."""

from __future__ import annotations

import gc
import os
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from authproxy.daemon import Daemon
from authproxy.identity import Identity
from authproxy.loading import Loaded
from authproxy.service import RELAY_SPREAD, FrontDoor, Parts
from authproxy.settings import Listen, ListenAddress, Settings, Timeouts
from authproxy.transport.admission import Admission
from authproxy.transport.binding import ListenError

from .test_relay import SWITCHING, UPGRADE
from .transports import FakeTransport
from .world import OK, Lines, World, fields_of, get, say


class Access(Lines):
    """An access log that knows when it is flushed and closed."""

    lost = 0

    def __init__(self) -> None:
        super().__init__()
        self.flushes = 0
        self.closed = False

    def flush(self) -> None:
        self.flushes += 1

    def close(self) -> None:
        self.closed = True


class FakeListener:
    """http or https; `admission.open` connections are in their handshakes."""

    def __init__(self) -> None:
        self.admission = Admission(100, 100, lambda _: False)
        self.failures: dict[str, int] = {}


class FakePort:
    """A listening port."""

    def __init__(self, address: ListenAddress, factory: Any, adopted: list[Settings]) -> None:
        self.address = address
        self.adopted = adopted
        self.factory = factory
        self.listening = True
        self.accepted = False
        self.accepted_by: Settings | None = None  # what was in force

    def accept_all(self) -> None:
        assert self.listening
        self.accepted = True
        self.accepted_by = self.adopted[-1] if self.adopted else None

    def getHost(self) -> Any:
        port = self.address.port or 54321

        class Host:
            pass

        host: Any = Host()
        host.port = port
        return host

    def stopListening(self) -> None:
        self.listening = False


class Notes:
    """What systemd hears."""

    watchdog_interval = 0.0

    def __init__(self) -> None:
        self.lines: list[str] = []

    def send(self, *lines: str) -> None:
        self.lines += lines


class _Tests(SynchronousTestCase):
    def setUp(self) -> None:
        self.build(Settings())

    def build(self, settings: Settings) -> None:
        """A front door with these settings, not started."""
        self.world = World(settings)
        self.clock = self.world.clock
        self.access = Access()
        self.world.gateway._access = self.access  # type: ignore[assignment]
        self.notifier: Any = Notes()
        self.http, self.https = FakeListener(), FakeListener()
        self.ports: list[FakePort] = []
        self.adopted: list[Settings] = []
        self.unwilling: Exception | None = None
        self.refused: dict[int, bool] = {}  # port -> for lack of permission
        parts: Any = Parts(
            gateway=self.world.gateway,
            deadlines=self.world.deadlines,
            access=self.access,  # type: ignore[arg-type]
            dispatcher=None,
            http=self.http,  # type: ignore[arg-type]
            https=self.https,  # type: ignore[arg-type]
            listen=self._listen,  # type: ignore[arg-type]
            adopt=self._adopt,
        )
        self.door = FrontDoor(self.clock, parts, self.notifier)

    def _adopt(self, settings: Settings, identity: Identity) -> None:
        if self.unwilling is not None:
            raise self.unwilling
        self.adopted.append(settings)
        self.world.gateway.adopt(settings, self.world.gateway.sites)

    def _listen(self, address: ListenAddress, listener: object) -> FakePort:
        if address.port in self.refused:
            raise ListenError(f"{address} is refused.", address, self.refused[address.port])
        port = FakePort(address, listener, self.adopted)
        self.ports.append(port)
        return port

    def start(self) -> None:
        self.door.privilegedStartService()
        self.addCleanup(gc.unfreeze)
        self.door.startService()

    def listening(self) -> list[int]:
        return [port.address.port for port in self.ports if port.listening]


class StartTests(_Tests):
    def test_defaults(self) -> None:
        self.start()
        self.assertEqual(self.listening(), [80, 443])
        self.assertEqual([port.factory for port in self.ports], [self.http, self.https])
        self.assertEqual(self.world.gateway.https_port, 0)  # left out of redirects

    def test_all_or_none(self) -> None:
        self.refused = {443: False}
        self.assertRaises(ListenError, self.door.privilegedStartService)
        self.assertEqual(self.listening(), [])

    def test_others_where_the_default_ports_are_not_permitted(self) -> None:
        self.refused = {80: True, 443: True}
        self.start()
        self.assertEqual(self.listening(), [8080, 8443])
        self.assertEqual(self.world.gateway.https_port, 8443)

    def test_only_for_lack_of_permission(self) -> None:
        self.refused = {80: False}
        self.assertRaises(ListenError, self.door.privilegedStartService)

    def test_not_for_ports_that_were_written_down(self) -> None:
        self.build(evolve(Settings(), listen=evolve(Listen(), https_explicit=True)))
        self.refused = {80: True, 443: True}
        error = self.assertRaises(ListenError, self.door.privilegedStartService)
        self.assertIn("443", str(error))
        self.assertEqual(self.listening(), [])

    def test_the_others_may_be_in_use(self) -> None:
        self.refused = {80: True, 8080: False}
        self.assertRaises(ListenError, self.door.privilegedStartService)

    def test_several_of_a_kind(self) -> None:
        http = (ListenAddress("tcp", "::", 8000), ListenAddress("unix", path="/run/x.sock"))
        self.build(evolve(Settings(), listen=evolve(Listen(), http=http, http_explicit=True)))
        self.start()
        self.assertEqual([port.address for port in self.ports[:2]], list(http))

    def test_any_free_port_is_said(self) -> None:
        https = (ListenAddress("tcp", "127.0.0.1", 0),)
        self.build(evolve(Settings(), listen=evolve(Listen(), https=https, https_explicit=True)))
        self.start()
        self.assertEqual(str(self.door.listeners.open[-1].address), "127.0.0.1:54321")
        self.assertEqual(self.world.gateway.https_port, 54321)

    def test_public_port(self) -> None:
        self.build(evolve(Settings(), listen=evolve(Listen(), public_https_port=443)))
        self.refused = {443: True}
        self.start()
        self.assertEqual(self.world.gateway.https_port, 0)

    def test_timers(self) -> None:
        self.notifier.watchdog_interval = 30.0
        self.start()
        self.assertIn("READY=1", self.notifier.lines)
        self.assertIn(f"MAINPID={os.getpid()}", self.notifier.lines)
        self.notifier.lines.clear()
        self.world.advance(61)
        self.assertEqual(self.notifier.lines.count("WATCHDOG=1"), 4)  # twice an interval
        self.assertTrue(60 <= self.access.flushes <= 61)

    def test_nothing_is_said_before_it_serves(self) -> None:
        self.door.privilegedStartService()
        self.assertEqual(self.notifier.lines, [])


class ReloadTests(_Tests):
    def setUp(self) -> None:
        super().setUp()
        self.start()

    def loaded(self, **listen: Any) -> Loaded:
        settings = evolve(Settings(), listen=evolve(Listen(), **listen))
        return Loaded("", settings, Identity([], set()))

    def test_listeners_and_the_rest(self) -> None:
        loaded = self.loaded(https=(ListenAddress("tcp", "::", 8443),), https_explicit=True)
        self.door.reload(loaded)
        self.assertEqual(self.listening(), [80, 8443])
        self.assertEqual(self.adopted, [loaded.settings])
        self.assertEqual(self.world.gateway.https_port, 8443)

    def test_a_listener_that_cannot_be_opened(self) -> None:
        self.refused = {8443: False}
        loaded = self.loaded(https=(ListenAddress("tcp", "::", 8443),), https_explicit=True)
        self.assertRaises(ListenError, self.door.reload, loaded)
        self.assertEqual(self.listening(), [80, 443])
        self.assertEqual(self.adopted, [])

    def test_what_cannot_be_adopted(self) -> None:
        self.unwilling = OSError("no access log")
        loaded = self.loaded(https=(ListenAddress("tcp", "::", 8443),), https_explicit=True)
        self.assertRaises(OSError, self.door.reload, loaded)
        self.assertEqual(self.listening(), [80, 443])
        self.assertEqual(self.world.gateway.https_port, 0)

    def test_who_waits_at_a_listener_that_goes(self) -> None:
        """They are served, with what is new; one that is given up again takes nobody."""
        self.door.reload(
            self.loaded(https=(ListenAddress("tcp", "::", 8443),), https_explicit=True)
        )
        accepted = [(port.address.port, port.accepted_by) for port in self.ports]
        self.assertEqual(accepted, [(80, None), (443, self.adopted[-1]), (8443, None)])
        self.unwilling = OSError("no access log")
        self.assertRaises(OSError, self.door.reload, self.loaded())
        self.assertEqual([port.accepted_by for port in self.ports[3:]], [None])

    def test_an_address_changes_its_scheme(self) -> None:
        where = (ListenAddress("tcp", "::", 80),)
        self.door.reload(self.loaded(http=(), https=where, https_explicit=True))
        self.assertEqual(self.listening(), [80])
        self.assertIs(self.ports[0].factory, self.https)


class DrainTests(_Tests):
    def setUp(self) -> None:
        super().setUp()
        self.start()
        self.notifier.lines.clear()

    def idle(self) -> FakeTransport:
        """A client with nothing to ask."""
        client = self.world.client()
        say(client, get())
        say(self.world.origins[-1], OK)
        client.take()
        return client

    def relay(self) -> tuple[FakeTransport, FakeTransport]:
        client = self.world.client()
        say(client, get(b"/ws/client/", *UPGRADE))
        origin = self.world.origins[-1]
        say(origin, SWITCHING)
        return client, origin

    def stop(self) -> Deferred[None]:
        self.stopped: Deferred[None] = self.door.stopService()
        return self.stopped

    def advance(self, seconds: float) -> None:
        self.clock.pump([0.05] * round(seconds / 0.05))

    def finish(self, *transports: FakeTransport) -> None:
        """What was closed is gone."""
        for transport in transports:
            if transport.connected and transport.ended in ("lose", "half", "abort"):
                transport.finish()

    def assert_stopped(self) -> None:
        self.assertTrue(self.stopped.called)
        self.assertTrue(self.access.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_waits_to_be_accepted(self) -> None:
        """Closing the socket would cut them. What is systemd's goes on: they wait for the next
        start there."""
        self.stop()
        self.assertEqual([port.accepted for port in self.ports], [True, True])
        inherited = (ListenAddress("systemd", name="https"),)
        self.build(evolve(Settings(), listen=evolve(Listen(), https=inherited)))
        self.start()
        self.stop()
        self.assertEqual([port.accepted for port in self.ports], [True, False])

    def test_a_connection_that_has_not_asked_yet(self) -> None:
        """Its request may be on its way: it gets a moment, and an answer."""
        asking, silent = self.world.client(), self.world.client()
        self.stop()
        self.advance(0.5)
        say(asking, get())
        say(self.world.origins[-1], OK)
        self.assertTrue(asking.take().startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertEqual(silent.ended, "")
        self.advance(3)
        self.assertEqual(silent.ended, "lose")
        self.finish(asking, silent)
        self.advance(0.2)
        self.assert_stopped()

    def test_a_handshake_gets_a_moment(self) -> None:
        self.https.admission.enter()
        self.stop()
        self.advance(1)
        self.assertFalse(self.stopped.called)
        self.https.admission.leave()
        self.advance(0.2)
        self.assert_stopped()

    def test_a_handshake_does_not_hold_the_drain_up(self) -> None:
        self.https.admission.enter()
        self.stop()
        self.advance(2.5)
        self.assert_stopped()

    def test_nothing_runs(self) -> None:
        self.stop()
        self.assertEqual(self.listening(), [])
        self.assertNoResult(self.stopped)
        self.advance(0.2)
        self.assert_stopped()

    def test_twice_is_once(self) -> None:
        self.assertIs(self.stop(), self.door.stopService())
        self.assertEqual(self.notifier.lines.count("STOPPING=1"), 1)

    def test_systemd_hears_it_at_once(self) -> None:
        self.stop()
        self.assertEqual(self.notifier.lines[0], "STOPPING=1")

    def test_idle_connections_close_at_once(self) -> None:
        idle = self.idle()
        self.stop()
        self.assertEqual(idle.ended, "lose")
        self.finish(idle)
        self.advance(0.2)
        self.assert_stopped()
        self.assertEqual(self.world.origins[0].ended, "lose")  # pooled

    def test_requests_finish(self) -> None:
        client = self.world.client()
        say(client, get())
        self.stop()
        self.advance(20)
        self.assertNoResult(self.stopped)
        self.assertEqual(client.ended, "")
        say(self.world.origins[0], OK)
        answer = client.take()
        self.assertTrue(answer.endswith(b"hello"))
        self.assertIn((b"connection", b"close"), fields_of(answer))
        self.assertEqual(client.ended, "lose")
        self.finish(client)
        self.advance(0.2)
        self.assert_stopped()

    def test_a_response_that_had_begun(self) -> None:
        """Its head said keep-alive; the connection closes after it all the same."""
        client = self.world.client()
        say(client, get())
        say(self.world.origins[0], OK[:-1])
        self.stop()
        say(self.world.origins[0], OK[-1:])
        self.assertTrue(client.take().endswith(b"hello"))
        self.assertEqual(client.ended, "lose")

    def test_a_head_that_has_begun_gets_its_answer(self) -> None:
        client = self.world.client()
        say(client, get()[:-2])
        self.stop()
        self.assertEqual(client.ended, "")
        say(client, b"\r\n")
        say(self.world.origins[0], OK)
        self.assertIn((b"connection", b"close"), fields_of(client.take()))
        self.assertEqual(client.ended, "lose")

    def test_a_request_in_the_queue_gets_its_answer(self) -> None:
        self.world.dial_by_hand = True
        client = self.world.client()
        say(client, get())
        self.stop()
        self.advance(1)
        say(self.world.dialled(), OK)
        self.assertTrue(client.take().endswith(b"hello"))

    def test_only_the_running_request_of_a_pipeline(self) -> None:
        client = self.world.client()
        say(client, get(b"/1") + get(b"/2"))
        self.stop()
        say(self.world.origins[0], OK)
        self.assertEqual(client.take().count(b"HTTP/1.1 "), 1)
        self.assertEqual(client.ended, "half")  # lingers: a reset would lose the answer

    def test_websockets_are_spread_and_gone_within_ten_seconds(self) -> None:
        sides = [self.relay() for _ in range(1000)]
        self.stop()
        left = [1000]
        for _ in range(10):
            self.advance(1)
            for pair in sides:
                self.finish(*pair)
            left.append(len(self.world.gateway.relays))
        for second in range(round(RELAY_SPREAD) - 1):
            self.assertTrue(150 <= left[second] - left[second + 1] <= 250, left)
        self.assert_stopped()
        self.assertEqual(self.access.statuses, [101] * 1000)

    def test_few_websockets(self) -> None:
        pair = self.relay()
        self.stop()
        self.advance(0.1)
        self.assertEqual([side.ended for side in pair], ["half", "half"])
        self.finish(*pair)
        self.advance(0.2)
        self.assert_stopped()

    def test_websockets_that_do_not_end_hold_up_no_others(self) -> None:
        sides = [self.relay() for _ in range(100)]
        for pair in sides:
            for side in pair:
                side.buffered = 1
        self.stop()
        self.advance(9.5)  # not one of them is gone: nobody reads the last bytes
        self.assertEqual({side.ended for pair in sides for side in pair}, {"half"})
        self.assertNoResult(self.stopped)
        self.advance(11)  # timeouts.relay_flush
        self.assertEqual({side.ended for pair in sides for side in pair}, {"abort"})
        for pair in sides:
            self.finish(*pair)
        self.advance(0.2)
        self.assert_stopped()

    def test_websockets_wait_for_requests(self) -> None:
        """Not longer: they start to close as soon as no request runs."""
        client, pair = self.world.client(), self.relay()
        say(client, get())
        self.stop()
        self.advance(15)
        self.assertEqual(pair[0].ended, "")
        say(self.world.origins[-1], OK)
        self.finish(client)
        self.advance(0.1)
        self.assertEqual(pair[0].ended, "half")

    def test_websockets_do_not_wait_for_connections_without_a_request(self) -> None:
        client, pair = self.world.client(), self.relay()
        say(client, b"GET / HT")
        self.stop()
        self.advance(0.1)
        self.assertEqual((client.ended, pair[0].ended), ("", "half"))

    def test_too_late(self) -> None:
        """What is left after timeouts.drain is cut, and that shows."""
        client, pair = self.world.client(), self.relay()
        say(client, get())
        self.stop()
        self.advance(29.9)
        self.assertEqual((client.ended, pair[0].ended), ("", ""))
        self.advance(0.2)
        self.assertEqual({client.ended, pair[0].ended, pair[1].ended}, {"abort"})
        self.finish(client, *pair)
        self.advance(0.1)
        self.assert_stopped()
        self.assertEqual(sorted(self.access.statuses), [101, 499])

    def test_by_setting(self) -> None:
        self.build(evolve(Settings(), timeouts=evolve(Timeouts(), drain=3)))
        self.start()
        sides = [self.relay() for _ in range(60)]
        self.stop()
        self.advance(2.9)  # they are spread over what there is
        ended = [pair[0].ended for pair in sides]
        self.assertTrue(50 < ended.count("half") <= 60, ended.count("half"))

    def test_the_second_signal_aborts(self) -> None:
        client = self.world.client()
        say(client, get())
        self.stop()
        self.advance(1)
        self.door.abort()
        self.advance(0.05)
        self.assertEqual(client.ended, "abort")
        self.finish(client)
        self.advance(0.1)
        self.assert_stopped()


class DaemonTests(SynchronousTestCase):
    """What twistd sees of it."""

    class Door:
        """A front door that does what a test says."""

        def __init__(self) -> None:
            self.calls: list[str] = []
            self.drained: Deferred[None] = Deferred()
            self.error: Exception | None = None

        def privilegedStartService(self) -> None:
            if self.error is not None:
                raise self.error

        def startService(self) -> None:
            self.calls.append("start")

        def stopService(self) -> Deferred[None]:
            self.calls.append("stop")
            return self.drained

        def abort(self) -> None:
            self.calls.append("abort")

        def reload(self) -> None:
            self.calls.append("reload")

    class Reactor:
        """Keeps what is to be called, or calls it."""

        def __init__(self) -> None:
            self.stops = 0
            self.when_running: list[Any] = []
            self.callWhenRunning = self.when_running.append

        def callFromThread(self, what: Any, *rest: Any) -> None:
            what(*rest)

        def stop(self) -> None:
            self.stops += 1

    def daemon(self, foreground: bool = True) -> Daemon:
        self.door, self.reactor = self.Door(), self.Reactor()
        reloads: Any = self.door
        self.admin = self.Door()
        admin: Any = self.admin
        return Daemon(self.door, admin, reloads, self.reactor, foreground=foreground, own_log=False)

    def test_a_start_that_fails(self) -> None:
        address = ListenAddress("tcp", "::", 443)
        said: list[str] = []

        def observer(event: Any) -> None:
            said.append(formatEvent(event))

        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for foreground, kind in ((True, SystemExit), (False, CannotListenError)):
            daemon = self.daemon(foreground)
            self.door.error = ListenError("[::]:443 is already in use by nginx.", address)
            error = self.assertRaises(kind, daemon.privilegedStartService)
        self.assertIn("in use by nginx", str(error))
        self.assertEqual(said, ["this machine: [::]:443 is already in use by nginx."])

    def test_signals(self) -> None:
        """The first one drains, the second one aborts."""
        daemon = self.daemon()
        daemon.startService()
        self.assertEqual(len(self.reactor.when_running), 1)  # after the reactor's own
        daemon._hang_up(1, None)
        self.assertEqual(self.door.calls.pop(), "reload")
        daemon._stop(15, None)
        self.assertEqual((self.reactor.stops, self.door.calls), (1, ["start"]))
        stopped = daemon.stopService()
        daemon._stop(15, None)
        self.assertEqual((self.reactor.stops, self.door.calls), (1, ["start", "stop", "abort"]))
        self.assertNoResult(stopped)

    def test_the_admin_listener_is_there_until_the_end(self) -> None:
        daemon = self.daemon()
        daemon.startService()
        stopped = daemon.stopService()
        self.assertEqual(self.admin.calls, ["start"])
        self.admin.drained.callback(None)
        self.door.drained.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.admin.calls, ["start", "stop"])
