"""The supervisor, on a Clock and with processes that do what a test says."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import signal
import socket
from typing import Any

import attrs
from twisted.internet.error import ConnectionDone, ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from authproxy.announcement import Announcement
from authproxy.identity import Identity
from authproxy.loading import Loaded
from authproxy.settings import Listen, ListenAddress, Log, Settings
from authproxy.transport.binding import ListenError
from authproxy.workers import process as worker_process
from authproxy.workers.lines import LINES_AGAIN
from authproxy.workers.supervisor import (
    BACKOFF,
    BACKOFF_MOST,
    GRACE,
    IMPATIENT,
    MOST_SILENT,
    MOST_SILENT_AT_FIRST,
    SETTLED,
    TICK,
    Supervisor,
)


class FakeProcess:
    """A process transport."""

    def __init__(self, reactor: Reactor, protocol: Any, descriptors: dict[int, Any]) -> None:
        self.pid = 1000 + len(reactor.processes)
        self.protocol = protocol
        self.descriptors = descriptors
        self.channel: Any = None
        self.wire: StringTransport = StringTransport()
        self.signals: list[int] = []
        self.sent: list[int] = []  # descriptors
        # Where its sockets listen: the descriptors themselves may be closed when a test looks.
        self.listens = [_name(fd) for child, fd in sorted(descriptors.items()) if child >= 4]

    def signalProcess(self, number: int) -> None:
        self.signals.append(number)

    def says(self, kind: str, **parts: Any) -> None:
        """A message of the worker."""
        self.channel.dataReceived(json.dumps({"kind": kind, **parts}).encode() + b"\n")

    def hears(self) -> list[dict[str, Any]]:
        """Messages to it, taken away."""
        heard = [json.loads(line) for line in self.wire.value().splitlines()]
        self.wire.clear()
        return heard

    def ends(self, number: int | None = None, status: int = 0) -> None:
        """The process is gone."""
        if number is None and not status:
            reason: Exception = ProcessDone(0)
        else:
            reason = ProcessTerminated(status or None, number)
        self.protocol.processEnded(Failure(reason))
        self.channel.connectionLost(Failure(ConnectionDone()))


def _name(fd: int) -> Any:
    with socket.socket(fileno=os.dup(fd)) as skt:
        return skt.getsockname()


class Reactor(Clock):
    """Starts processes that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.refusals = 0  # starts that fail

    def callWhenRunning(self, what: Any, *rest: Any) -> None:
        what(*rest)

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:
        channel = factory.buildProtocol(None)
        wire = StringTransport()
        channel.makeConnection(wire)
        self.processes[-1].channel, self.processes[-1].wire = channel, wire

    def spawnProcess(
        self, protocol: Any, executable: str, arguments: list[str], env: Any, childFDs: Any
    ) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        process = FakeProcess(self, protocol, childFDs)
        self.environment = env
        self.processes.append(process)
        protocol.makeConnection(process)


class Notes:
    """What systemd hears."""

    watchdog_interval = 30.0

    def __init__(self) -> None:
        self.lines: list[str] = []

    def send(self, *lines: str) -> None:
        self.lines += lines


ANY = (ListenAddress("tcp", "127.0.0.1", 0),)


class _Tests(SynchronousTestCase):
    workers = 2

    def setUp(self) -> None:
        self.build(Listen(http=ANY, https=(), http_explicit=True, plain_http="serve"))
        self.supervisor.privilegedStartService()
        self.supervisor.startService()

    def build(self, listen: Listen, access: str = "") -> None:
        settings = attrs.evolve(Settings(), listen=listen, log=Log(access=access))
        self.reactor = Reactor()
        self.notes = Notes()

        loaded = Loaded("", settings, Identity([], set()))
        notifier: Any = self.notes
        self.supervisor = Supervisor(
            self.reactor, loaded, self.workers, {}, notifier, Announcement(settings)
        )
        self.addCleanup(self.supervisor.listeners.close)

    @property
    def processes(self) -> list[FakeProcess]:
        return self.reactor.processes

    def all_ready(self) -> None:
        for process in self.processes:
            process.says("ready")

    def advance(self, seconds: float) -> None:
        self.reactor.pump([TICK / 2] * round(seconds / (TICK / 2)))


class StartTests(_Tests):
    def test_a_process_for_each_place(self) -> None:
        self.assertEqual(len(self.processes), 2)
        for process in self.processes:
            [message] = process.hears()
            self.assertEqual(message["kind"], "handover")
            [[scheme, where]] = message["listeners"]
            self.assertEqual((scheme, where["host"]), ("http", "127.0.0.1"))
            self.assertEqual(process.listens, [("127.0.0.1", where["port"])])

    def test_sockets_of_their_own(self) -> None:
        first, second = (process.descriptors[4] for process in self.processes)
        self.assertNotEqual(first, second)

    def test_ready_when_all_are(self) -> None:
        self.processes[0].says("ready")
        self.assertEqual(self.notes.lines, [])
        self.processes[1].says("ready")
        self.assertIn("READY=1", self.notes.lines)
        self.assertIn(f"MAINPID={os.getpid()}", self.notes.lines)

    def test_the_service_manager_is_ours_alone(self) -> None:
        names = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID"}
        self.assertEqual(names & set(self.reactor.environment), set())

    def test_all_or_none(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = ListenAddress("tcp", "127.0.0.1", other.getsockname()[1])
            self.build(Listen(http=(*ANY, taken), https=(), http_explicit=True))
            error = self.assertRaises(ListenError, self.supervisor.privilegedStartService)
        self.assertIn("already in use", str(error))
        self.assertEqual(self.supervisor.listeners.open, [])

    def test_one_unix_socket_for_all(self) -> None:
        path = os.path.join(os.path.relpath(self.mktemp()) + ".sock")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        where = (ListenAddress("unix", path=path),)
        self.build(Listen(http=where, https=(), http_explicit=True))
        self.supervisor.privilegedStartService()
        self.supervisor.startService()
        self.assertEqual([process.listens for process in self.processes], [[path], [path]])
        self.supervisor.stopService()
        self.assertFalse(os.path.exists(path))


class DeathTests(_Tests):
    def setUp(self) -> None:
        super().setUp()
        self.all_ready()
        self.notes.lines.clear()

    def test_another_takes_its_place_at_once(self) -> None:
        self.advance(SETTLED)
        self.processes[0].ends(signal.SIGKILL)
        self.reactor.advance(0)
        self.assertEqual(len(self.processes), 3)
        # On the same socket: what waits in its queue is served.
        self.assertEqual(self.processes[2].descriptors[4], self.processes[0].descriptors[4])
        self.assertEqual(self.supervisor.counters()["worker_restarts"], {"": 1})

    def test_ready_is_said_once(self) -> None:
        self.processes[0].ends(signal.SIGKILL)
        self.reactor.advance(0)
        self.processes[2].says("ready")
        self.assertNotIn("READY=1", self.notes.lines)

    def test_backoff(self) -> None:
        """One that dies young again and again is started less and less often."""
        waits = []
        for _ in range(10):
            self.processes[-1].ends(status=1)
            before, waited = len(self.processes), 0.0
            self.reactor.advance(0)
            while len(self.processes) == before:
                self.reactor.advance(0.25)
                waited += 0.25
            waits.append(waited)
        self.assertEqual(waits[:4], [0, BACKOFF, 2 * BACKOFF, 4 * BACKOFF])
        self.assertEqual(waits[-1], BACKOFF_MOST)

    def test_backoff_is_forgotten(self) -> None:
        for _ in range(5):
            self.processes[-1].ends(status=1)
            self.advance(BACKOFF_MOST)
        self.advance(SETTLED)
        self.processes[-1].ends(status=1)
        before = len(self.processes)
        self.reactor.advance(0)
        self.assertEqual(len(self.processes), before + 1)

    def test_what_it_counted_stays(self) -> None:
        counted = {"requests": {"": 5}, "refused": {"loop": 1}, "websockets": {"": 3}}
        for process in self.processes:
            process.says("counters", snapshot=counted)
        self.assertEqual(self.supervisor.counters()["requests"], {"": 10})
        self.processes[0].ends(signal.SIGKILL)
        self.reactor.advance(0)
        seen = self.supervisor.counters()
        self.assertEqual((seen["requests"], seen["refused"]), ({"": 10}, {"loop": 2}))
        self.assertEqual(seen["websockets"], {"": 3})  # those of the dead one are closed
        self.processes[2].says("counters", snapshot={"requests": {"": 1}})
        self.assertEqual(self.supervisor.counters()["requests"], {"": 11})

    def test_one_that_hangs_is_killed(self) -> None:
        for _ in range(MOST_SILENT):
            self.processes[1].says("counters", snapshot={})
            self.reactor.advance(TICK)
        self.assertEqual(self.processes[0].signals, [])
        self.processes[1].says("counters", snapshot={})
        self.reactor.advance(TICK)
        self.assertEqual(self.processes[0].signals, [signal.SIGKILL])
        self.assertEqual(self.processes[1].signals, [])

    def test_a_machine_that_slept_kills_nobody(self) -> None:
        self.reactor.advance(3600)
        self.assertEqual([process.signals for process in self.processes], [[], []])

    def test_one_that_starts_slowly_has_longer(self) -> None:
        self.processes[0].ends(status=1)
        self.reactor.advance(0)
        for _ in range(MOST_SILENT_AT_FIRST):
            self.processes[1].says("counters", snapshot={})
            self.reactor.advance(TICK)
        self.assertEqual(self.processes[2].signals, [])
        self.reactor.advance(TICK)
        self.assertEqual(self.processes[2].signals, [signal.SIGKILL])

    def test_one_that_hangs_while_it_leaves_is_killed(self) -> None:
        self.processes[0].says("leaving")
        for _ in range(MOST_SILENT + 1):
            for process in self.processes[1:]:
                process.says("counters", snapshot={})
            self.reactor.advance(TICK)
        self.assertEqual(self.processes[0].signals, [signal.SIGKILL])

    def test_what_it_said_last_is_heard(self) -> None:
        """The process may be gone before its channel was read to the end."""
        worker = self.processes[0]
        worker.protocol.processEnded(Failure(ProcessTerminated(None, signal.SIGKILL)))
        worker.says("counters", snapshot={"requests": {"": 7}})
        worker.says("leaving")
        worker.channel.connectionLost(Failure(ConnectionDone()))
        self.reactor.advance(0)
        self.assertEqual(self.supervisor.counters()["requests"], {"": 7})
        self.assertEqual(self.supervisor.leaving, set())

    def test_a_signal_without_a_name(self) -> None:
        self.processes[0].ends(40)
        self.reactor.advance(0)
        self.assertEqual(len(self.processes), 3)

    def test_a_start_that_fails_is_tried_again(self) -> None:
        """For want of memory, processes, descriptors; also again and again, all night."""
        self.reactor.refusals = 2000
        self.processes[0].ends(signal.SIGKILL)
        self.reactor.advance(0)
        for _ in range(2000):
            self.reactor.advance(BACKOFF_MOST)
        self.assertEqual(len(self.processes), 3)
        stopped = self.supervisor.stopService()
        for process in self.processes[1:]:
            process.ends()
        self.successResultOf(stopped)

    def test_a_stop_while_nobody_can_start(self) -> None:
        self.reactor.refusals = 1000
        for process in self.processes:
            process.ends(signal.SIGKILL)
        self.reactor.advance(0)
        self.successResultOf(self.supervisor.stopService())

    def test_one_that_leaves_has_its_successor_first(self) -> None:
        """Nobody else accepts on its socket."""
        self.processes[0].says("leaving")
        self.assertEqual(len(self.processes), 3)
        self.assertEqual(self.processes[2].descriptors[4], self.processes[0].descriptors[4])
        self.processes[0].says("counters", snapshot={"requests": {"": 5}})
        self.assertEqual(self.supervisor.counters()["requests"], {"": 5})
        self.processes[0].ends()
        self.reactor.advance(BACKOFF_MOST)
        self.assertEqual(len(self.processes), 3)
        self.assertEqual(self.supervisor.counters()["requests"], {"": 5})
        self.assertEqual(self.supervisor.counters()["worker_restarts"], {"": 0})


class SayingTests(_Tests):
    def test_watchdog(self) -> None:
        self.all_ready()
        self.notes.lines.clear()
        counted = {"requests": {"": 4}, "client_connections": {"": 2}, "websockets": {"": 1}}
        for process in self.processes:
            process.says("counters", snapshot=counted)
        self.reactor.advance(15)
        self.assertEqual(
            self.notes.lines, ["WATCHDOG=1", "STATUS=4 connections, 2 WebSockets, 8 requests"]
        )

    def test_watchdog_before_anything_was_counted(self) -> None:
        self.reactor.advance(15)
        self.assertIn("WATCHDOG=1", self.notes.lines)

    def test_faults_are_logged_here(self) -> None:
        self.processes[1].says("log", level="error", text="Site a, 503: nothing listens")
        [event] = self.flushLogged()
        self.assertIn("[worker 2] Site a, 503: nothing listens", event)

    def test_what_python_says(self) -> None:
        self.processes[0].protocol.childDataReceived(2, b"Fatal Python error: x\n")
        [event] = self.flushLogged()
        self.assertIn("[worker 1] Fatal Python error: x", event)

    def test_what_python_says_again_and_again(self) -> None:
        """As much as a traceback has, in 10 s; then how much more there was."""
        for _ in range(10):
            self.processes[0].protocol.childDataReceived(2, b"From a callback\n" * 100)
        self.assertEqual(len(self.flushLogged()), worker_process.MOST_LINES)
        self.reactor.advance(worker_process.WINDOW)
        self.processes[0].protocol.childDataReceived(2, b"the next\n")
        self.assertEqual(
            self.flushLogged()[worker_process.MOST_LINES :],
            ["[worker 1] (900 more lines of its standard error)", "[worker 1] the next"],
        )

    def setUp(self) -> None:
        self.logged: list[str] = []

        def observe(event: Any) -> None:
            if event["log_namespace"] == "authproxy.workers.process":
                self.logged.append(formatEvent(event))

        observer: Any = observe
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        super().setUp()

    def flushLogged(self) -> list[str]:
        return self.logged


class AccessLineTests(_Tests):
    def setUp(self) -> None:
        read, write = os.pipe()
        saved = os.dup(1)
        os.dup2(write, 1)
        os.close(write)
        try:
            self.build(Listen(http=ANY, https=(), http_explicit=True), access="-")
        finally:
            os.dup2(saved, 1)
            os.close(saved)
        self.read = read
        self.addCleanup(os.close, read)
        self.supervisor.privilegedStartService()
        self.supervisor.startService()

    def test_lines_of_several_are_never_mixed(self) -> None:
        first, second = self.processes
        first.says("lines", text="first A")
        second.says("lines", text="second A")
        first.says("lines", text="first B")
        second.says("lines", text="second B")
        self.assertEqual(os.read(self.read, 1000), b"first A\nsecond A\nfirst B\nsecond B\n")

    def test_what_a_full_pipe_did_not_take_is_tried_again_soon(self) -> None:
        """And nothing is tried while nothing waits."""
        calls = len(self.reactor.getDelayedCalls())
        line = "x" * 1023
        for _ in range(200):  # a pipe has 64 KiB
            self.processes[0].says("lines", text=line)
        self.assertEqual(len(self.reactor.getDelayedCalls()), calls + 1)
        read = b""
        while len(read) < 200 * 1024:
            read += os.read(self.read, 65536)
            self.reactor.advance(LINES_AGAIN)
        self.assertEqual(read, (line + "\n").encode() * 200)
        self.assertEqual(len(self.reactor.getDelayedCalls()), calls)
        self.assertEqual(self.supervisor.counters().get("access_lines_lost"), None)


class StopTests(_Tests):
    def setUp(self) -> None:
        super().setUp()
        self.all_ready()
        for process in self.processes:
            process.hears()
        self.notes.lines.clear()
        self.port = self.supervisor.listeners.open[0].address.port

    def test_all_drain(self) -> None:
        stopped = self.supervisor.stopService()
        self.assertEqual(self.notes.lines[0], "STOPPING=1")
        for process in self.processes:
            self.assertEqual(process.hears(), [{"kind": "drain"}])
            process.says("leaving")
        self.assertEqual(len(self.processes), 2)
        self.processes[0].ends()
        self.assertNoResult(stopped)
        self.processes[1].ends()
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_nobody_is_accepted_any_more(self) -> None:
        self.supervisor.stopService()
        where = ("127.0.0.1", self.port)
        self.assertRaises(ConnectionRefusedError, socket.create_connection, where)

    def test_twice_is_once(self) -> None:
        self.assertIs(self.supervisor.stopService(), self.supervisor.stopService())

    def test_one_that_dies_meanwhile_is_not_replaced(self) -> None:
        stopped = self.supervisor.stopService()
        self.processes[0].ends(signal.SIGSEGV)
        self.processes[1].ends()
        self.successResultOf(stopped)
        self.assertEqual(len(self.processes), 2)

    def test_one_whose_successor_was_waited_for(self) -> None:
        for _ in range(2):
            self.processes[-1].ends(status=1)
            self.reactor.advance(0)
        stopped = self.supervisor.stopService()
        self.processes[0].ends()
        self.successResultOf(stopped)

    def test_the_second_signal_aborts(self) -> None:
        self.supervisor.stopService()
        for process in self.processes:
            process.hears()
        self.supervisor.abort()
        self.assertEqual([p.hears() for p in self.processes], [[{"kind": "abort"}]] * 2)
        self.reactor.advance(4)  # a busy machine may take its time to cut, and to write the lines
        self.assertEqual([p.signals for p in self.processes], [[]] * 2)
        self.reactor.advance(IMPATIENT - 4)  # those that hang do not hear it
        self.assertEqual([p.signals for p in self.processes], [[signal.SIGKILL]] * 2)

    def test_one_that_does_not_end_is_killed(self) -> None:
        stopped = self.supervisor.stopService()
        self.processes[0].ends()
        self.reactor.advance(Settings().timeouts.drain + GRACE)
        self.assertEqual(self.processes[1].signals, [signal.SIGKILL])
        self.processes[1].ends(signal.SIGKILL)
        self.successResultOf(stopped)

    def test_before_anybody_was_started(self) -> None:
        self.build(Listen(http=ANY, https=(), http_explicit=True))
        self.supervisor.privilegedStartService()
        self.successResultOf(self.supervisor.stopService())


class ReloadTests(_Tests):
    def setUp(self) -> None:
        super().setUp()
        self.all_ready()
        for process in self.processes:
            process.hears()
            process.wire.sendFileDescriptor = process.sent.append  # type: ignore[attr-defined]

    def loaded(self, **listen: Any) -> Loaded:
        settings = self.supervisor._loaded.settings
        wanted = attrs.evolve(settings.listen, **listen)
        return Loaded("text", attrs.evolve(settings, listen=wanted), Identity([], set()))

    def test_all_workers_hear_of_it(self) -> None:
        done = self.supervisor.reload(self.loaded())
        for process in self.processes:
            [message] = process.hears()
            self.assertEqual((message["kind"], message["text"]), ("reload", "text"))
            self.assertEqual(process.sent, [])
        self.processes[0].says("reloaded", problem="")
        self.assertNoResult(done)
        self.processes[1].says("reloaded", problem="")
        self.successResultOf(done)

    def test_new_sockets_go_to_all_and_old_ones_close(self) -> None:
        [before] = self.supervisor.listeners.open
        done = self.supervisor.reload(self.loaded(https=ANY, http=()))
        [opened] = self.supervisor.listeners.open
        self.assertEqual([skt.fileno() for skt in before.what], [-1, -1])
        self.assertEqual(
            [process.sent for process in self.processes], [[skt.fileno()] for skt in opened.what]
        )
        [message] = self.processes[0].hears()
        self.assertEqual(
            [(scheme, where["port"]) for scheme, where in message["listeners"]],
            [("https", opened.address.port)],
        )
        self.assertNoResult(done)

    def test_one_that_dies_has_heard_enough(self) -> None:
        """Its successor begins with what is new."""
        done = self.supervisor.reload(self.loaded())
        self.processes[1].says("reloaded", problem="")
        self.processes[0].ends(signal.SIGKILL)
        self.successResultOf(done)
        self.reactor.advance(0)
        [message] = self.processes[2].hears()
        self.assertEqual((message["kind"], message["text"]), ("handover", "text"))

    def test_one_that_is_gone_already(self) -> None:
        """Its channel is closed, its end not heard of: nobody may wait for its answer for ever."""
        self.processes[0].channel.connectionLost(Failure(ConnectionDone()))
        done = self.supervisor.reload(self.loaded())
        self.processes[1].says("reloaded", problem="")
        self.successResultOf(done)
        self.processes[0].protocol.processEnded(Failure(ProcessTerminated(1)))
        self.reactor.advance(0)
        [message] = self.processes[2].hears()
        self.assertEqual((message["kind"], message["text"]), ("handover", "text"))

    def test_one_that_cannot_is_replaced(self) -> None:
        done = self.supervisor.reload(self.loaded())
        self.processes[0].says("reloaded", problem="no memory")
        self.processes[1].says("reloaded", problem="")
        self.successResultOf(done)
        self.assertEqual(self.processes[0].hears()[-1]["kind"], "drain")
        self.assertEqual(self.processes[1].hears()[-1]["kind"], "reload")

    def test_what_fails_changes_nothing(self) -> None:
        before = self.supervisor._loaded
        with socket.socket() as skt:
            skt.bind(("127.0.0.1", 0))
            skt.listen()
            taken = ListenAddress("tcp", "127.0.0.1", skt.getsockname()[1])
            wanted = self.loaded(http=(*ANY, taken))
            self.assertRaises(ListenError, self.supervisor.reload, wanted)
        settings = attrs.evolve(before.settings, log=Log(access="/nowhere/access.log"))
        wanted = attrs.evolve(self.loaded(https=ANY), settings=settings)
        self.assertRaises(OSError, self.supervisor.reload, wanted)
        self.assertIs(self.supervisor._loaded, before)
        self.assertEqual(len(self.supervisor.listeners.open), 1)
        self.assertEqual([process.hears() for process in self.processes], [[], []])

    def test_the_access_log(self) -> None:
        """What a worker served before it reloaded goes where it belongs."""
        files = [os.path.abspath(self.mktemp()) for _ in range(2)]
        for path in files:
            settings = attrs.evolve(self.supervisor._loaded.settings, log=Log(access=path))
            done = self.supervisor.reload(Loaded("", settings, Identity([], set())))
            for number, process in enumerate(self.processes):
                process.says("lines", text=f"{number} before")
                process.says("reloaded", problem="")
                process.says("lines", text=f"{number} after")
            self.successResultOf(done)
        self.assertEqual(
            [pathlib.Path(path).read_text().splitlines() for path in files],
            [["0 after", "1 after", "0 before", "1 before"], ["0 after", "1 after"]],
        )
