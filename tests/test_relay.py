"""Upgrades, and what happens after a 101, as conversations; backpressure over real sockets too."""

from __future__ import annotations

import base64
import gc
import os
import weakref
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from authproxy.relay import Relay
from authproxy.settings import Settings, Timeouts
from authproxy.wire.heads import RequestHead
from authproxy.wire.websocket import accept_value

from .transport.test_stream import Pair
from .transports import FakeTransport
from .world import OK, World, fields_of, get, say

KEY = base64.b64encode(b"0123456789abcdef")
UPGRADE = (
    b"Connection: keep-alive, Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: " + KEY, b"Sec-WebSocket-Protocol: guacamole",
)  # fmt: skip
SWITCHING = b"\r\n".join([
    b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade",
    b"Sec-WebSocket-Accept: " + accept_value(KEY), b"Sec-WebSocket-Protocol: guacamole", b"", b"",
])  # fmt: skip


def _producer(transport: FakeTransport) -> Any:
    """Whom this transport pauses when its buffer is full."""
    return transport.producer


class _Tests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(Settings())

    def asked(self, request: bytes) -> tuple[FakeTransport, bytes]:
        """A client that sent this, and what upstream saw of it."""
        client = self.world.client()
        say(client, request)
        return client, self.world.origins[-1].take()

    def open(self) -> tuple[FakeTransport, FakeTransport]:
        """The two ends of an open WebSocket."""
        client, _ = self.asked(get(b"/ws/client/", *UPGRADE))
        origin = self.world.origins[-1]
        say(origin, SWITCHING)
        client.take()
        return client, origin

    def assert_over(self) -> None:
        """Nothing is left of the relay, and its line was written."""
        self.assertEqual(self.world.gateway.relays, set())
        self.assertEqual(self.world.gateway.exchanges, 0)
        self.assertEqual(self.world.pool.open, 0)
        self.assertEqual(self.world.access.statuses, [101])
        # The pool's, what counts faults, and what waits.
        self.assertEqual(len(self.world.deadlines), 3)


class AskingTests(_Tests):
    def test_proper(self) -> None:
        _, seen = self.asked(get(b"/ws/client/", *UPGRADE))
        self.assertTrue(seen.startswith(b"GET /ws/client/ HTTP/1.1\r\n"))
        fields = fields_of(seen)
        self.assertEqual([v for n, v in fields if n == b"connection"], [b"upgrade"])
        self.assertEqual([v for n, v in fields if n == b"upgrade"], [b"websocket"])
        for field in UPGRADE[2:]:
            name, _, value = field.partition(b": ")
            self.assertIn((name.lower(), value), fields)
        self.assertIn((b"x-forwarded-proto", b"https"), fields)  # not wss

    def test_nothing_else_is_an_upgrade(self) -> None:
        """It goes up as an ordinary request, without Upgrade; a 101 to it is upstream's fault."""
        proper = get(b"/ws/client/", *UPGRADE)
        h2c = get(
            b"/",
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABk",
        )
        for request in (
            h2c,
            proper.replace(b"websocket", b"websocket, h2c", 1),
            proper.replace(b"GET", b"POST"),
            proper.replace(b"HTTP/1.1", b"HTTP/1.0"),
            proper.replace(b"Version: 13", b"Version: 8"),
            proper.replace(b"Version: 13", b"Version: 13, 8"),
            proper.replace(b"Sec-WebSocket-Version: 13\r\n", b""),
            proper.replace(KEY, b"c2hvcnQ="),
            proper.replace(b"Key: " + KEY, b"Key: " + KEY + b"\r\nSec-WebSocket-Key: " + KEY),
            proper.replace(b"Connection: keep-alive, Upgrade", b"Connection: keep-alive"),
            proper.replace(b"Upgrade: websocket\r\n", b""),
            proper.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc"),
        ):
            self.setUp()
            client, seen = self.asked(request)
            self.assertNotIn(b"upgrade", dict(fields_of(seen)), request)
            self.assertNotIn(b"connection", dict(fields_of(seen)))
            self.assertNotIn(b"http2-settings", dict(fields_of(seen)))
            say(self.world.origins[0], SWITCHING)
            self.assertTrue(client.take().startswith(b"HTTP/1.1 502 "), request)
            self.assertEqual(self.world.origins[0].ended, "abort")
            self.assertEqual(self.world.gateway.relays, set())

    def test_an_ordinary_answer_to_h2c(self) -> None:
        client, _ = self.asked(get(b"/", b"Connection: Upgrade", b"Upgrade: h2c"))
        offer = b"\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n"
        say(self.world.origins[0], OK.replace(b"\r\n", offer, 1))
        answer = client.take()
        self.assertTrue(answer.endswith(b"\r\n\r\nhello"))
        self.assertNotIn(b"upgrade", dict(fields_of(answer)))


class AnswerTests(_Tests):
    def test_upstreams_own_101(self) -> None:
        client, _ = self.asked(get(b"/ws/client/", *UPGRADE))
        say(self.world.origins[0], SWITCHING)
        answer = client.take()
        self.assertTrue(answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"))
        fields = fields_of(answer)
        for field in (
            (b"sec-websocket-accept", accept_value(KEY)),
            (b"sec-websocket-protocol", b"guacamole"),
            (b"connection", b"upgrade"),
            (b"upgrade", b"websocket"),
        ):
            self.assertEqual(fields.count(field), 1, field)
        self.assertTrue(self.world.opening.is_proven)

    def test_improper_101(self) -> None:
        for bad in (
            SWITCHING.replace(accept_value(KEY), accept_value(b"another")),
            SWITCHING.replace(b"Sec-WebSocket-Accept", b"X"),
            SWITCHING.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
            SWITCHING.replace(b"Upgrade: websocket\r\n", b""),
            SWITCHING.replace(b"Connection: Upgrade", b"Connection: close"),
            SWITCHING.replace(b"Connection: Upgrade\r\n", b""),
        ):
            self.setUp()
            client, _ = self.asked(get(b"/ws/client/", *UPGRADE))
            say(self.world.origins[0], bad + b"smuggled")
            answer = client.take()
            self.assertTrue(answer.startswith(b"HTTP/1.1 502 "), bad)
            self.assertNotIn(b"smuggled", answer)
            self.assertEqual(self.world.origins[0].ended, "abort")
            self.assertEqual(self.world.access.statuses, [502])

    def test_refused(self) -> None:
        """An ordinary response: both connections go on."""
        client, _ = self.asked(get(b"/ws/client/", *UPGRADE))
        [origin] = self.world.origins
        say(origin, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        self.assertTrue(client.take().startswith(b"HTTP/1.1 403 Forbidden\r\n"))
        self.assertEqual((client.ended, origin.ended), ("", ""))
        say(client, get(b"/next"))
        self.assertTrue(origin.take().startswith(b"GET /next "))
        say(origin, OK)
        self.assertTrue(client.take().endswith(b"hello"))
        self.assertEqual(self.world.access.statuses, [403, 200])

    def test_refused_with_content(self) -> None:
        client, _ = self.asked(get(b"/ws/client/", *UPGRADE))
        say(self.world.origins[0], OK)
        answer = client.take()
        self.assertEqual(dict(fields_of(answer))[b"content-length"], b"5")
        self.assertTrue(answer.endswith(b"\r\n\r\nhello"))

    def test_early_bytes_of_a_refused_one_are_a_request(self) -> None:
        self.asked(get(b"/ws/client/", *UPGRADE) + get(b"/next"))
        say(self.world.origins[0], b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        self.assertTrue(self.world.origins[0].take().startswith(b"GET /next "))


class EarlyTests(_Tests):
    def test_of_the_client(self) -> None:
        """Not one byte goes up before the 101."""
        client, seen = self.asked(get(b"/ws/client/", *UPGRADE) + b"\x81\x85early")
        [origin] = self.world.origins
        self.assertTrue(seen.endswith(b"\r\n\r\n"))
        say(client, b"and more")
        self.assertEqual(origin.take(), b"")
        say(origin, SWITCHING)
        self.assertEqual(origin.take(), b"\x81\x85earlyand more")
        say(client, b"later")
        self.assertEqual(origin.take(), b"later")

    def test_of_the_client_are_bounded(self) -> None:
        client, _ = self.asked(get(b"/ws/client/", *UPGRADE))
        say(client, b"x" * 65537)
        self.assertTrue(client.paused)
        say(self.world.origins[0], SWITCHING)
        self.assertEqual(len(self.world.origins[0].take()), 65537)
        self.assertFalse(client.paused)

    def test_of_upstream(self) -> None:
        client, _ = self.asked(get(b"/ws/client/", *UPGRADE))
        say(self.world.origins[0], SWITCHING + b"\x81\x05hello")
        self.assertTrue(client.take().endswith(b"\r\n\r\n\x81\x05hello"))
        client.finish()
        self.world.origins[0].finish()
        self.assertEqual(self.world.access.lines[0][6], 7)  # they count

    def test_of_both(self) -> None:
        client, _ = self.asked(get(b"/ws/client/", *UPGRADE) + b"up")
        say(self.world.origins[0], SWITCHING + b"down")
        self.assertTrue(client.take().endswith(b"\r\n\r\ndown"))
        self.assertEqual(self.world.origins[0].take(), b"up")


class RelayTests(_Tests):
    def test_both_directions(self) -> None:
        client, origin = self.open()
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\0\xff" * 10):  # never read as HTTP
            say(client, data)
            say(origin, data + b"!")
            self.assertEqual((origin.take(), client.take()), (data, data + b"!"))
        self.assertEqual(self.world.access.lines, [])
        self.assertTrue(client.keepalive and origin.keepalive)

    def test_each_side_pauses_the_other(self) -> None:
        client, origin = self.open()
        _producer(client).pauseProducing()
        self.assertEqual((client.paused, origin.paused), (False, True))
        _producer(client).resumeProducing()
        _producer(origin).pauseProducing()
        self.assertEqual((client.paused, origin.paused), (True, False))
        _producer(origin).resumeProducing()
        self.assertFalse(client.paused)
        self.assertTrue(client.streaming and origin.streaming)

    def test_paused_connections_go_on_reading(self) -> None:
        client, _ = self.asked(get(b"/ws/client/", *UPGRADE))
        client.protocol.pauseProducing()
        say(self.world.origins[0], SWITCHING)
        self.assertFalse(self.world.origins[0].paused)

    def test_the_pool_has_it_no_more(self) -> None:
        self.open()
        self.assertEqual(self.world.pool.open, 0)
        self.assertEqual(len(self.world.gateway.connections), 0)

    def test_http_is_gone_without_the_collector(self) -> None:
        client, _ = self.asked(get(b"/ws/client/", *UPGRADE))
        origin = self.world.origins[-1]
        gone = [weakref.ref(transport.protocol) for transport in (client, origin)]
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        say(origin, SWITCHING)
        self.assertEqual([ref() for ref in gone], [None, None])

    def test_secrets_of_the_request_are_gone(self) -> None:
        secret = os.urandom(8).hex().encode()
        client, _ = self.asked(get(b"/ws/client/", b"Cookie: a=" + secret, *UPGRADE))
        say(self.world.origins[-1], SWITCHING)
        [relay] = self.world.gateway.relays
        head = relay._exchange.head
        kept = [head.fields, head.named, head.section, head.forwarded]
        self.assertNotIn(secret, repr(kept).encode())
        say(client, b"x")
        self.assertEqual(self.world.origins[-1].take(), b"x")

    def test_idle(self) -> None:
        client, origin = self.open()
        self.world.advance(3000)
        say(origin, b"x")
        self.world.advance(3000)
        say(client, b"x")
        self.world.advance(3599)
        self.assertEqual((client.ended, origin.ended), ("", ""))
        self.world.advance(2)
        self.assertEqual((client.ended, origin.ended), ("half", "half"))

    def test_by_setting(self) -> None:
        self.world = World(evolve(Settings(), timeouts=evolve(Timeouts(), relay_idle=5)))
        client, _ = self.open()
        self.world.advance(6)
        self.assertEqual(client.ended, "half")

    def test_one_side_ends(self) -> None:
        """The other one is flushed and closed."""
        for first in (0, 1):
            self.setUp()
            sides = self.open()
            ending, other = sides[first], sides[1 - first]
            say(ending, b"last words")
            ending.finish()
            self.assertEqual(other.take(), b"last words")
            self.assertEqual(other.ended, "half")
            say(other, b"not for anybody any more")
            self.assertIsNone(other.producer)
            self.assertEqual(self.world.access.lines, [])
            other.finish()
            self.assert_over()

    def test_the_flush_is_bounded(self) -> None:
        client, origin = self.open()
        client.buffered = 1
        origin.finish()
        self.world.advance(9)
        self.assertEqual(client.ended, "half")
        self.world.advance(2)
        self.assertEqual(client.ended, "abort")
        client.finish()
        self.assert_over()

    def test_both_sides_are_bounded_after_an_idle_end(self) -> None:
        client, origin = self.open()
        client.buffered = origin.buffered = 1
        self.world.advance(3601)
        self.world.advance(11)
        self.assertEqual((client.ended, origin.ended), ("abort", "abort"))
        client.finish()
        origin.finish()
        self.assert_over()

    def test_a_reset(self) -> None:
        client, origin = self.open()
        client.abortConnection()
        client.finish()
        self.assertEqual(origin.ended, "half")
        origin.finish()
        self.assert_over()

    def test_closing_twice_is_closing_once(self) -> None:
        client, origin = self.open()
        [relay] = self.world.gateway.relays
        client.buffered = origin.buffered = 1
        relay.close()
        self.world.advance(8)
        relay.close()
        self.world.advance(3)
        self.assertEqual((client.ended, origin.ended), ("abort", "abort"))

    def test_access_line(self) -> None:
        client, origin = self.open()
        say(origin, b"x" * 1000)
        say(client, b"y" * 10)
        self.world.advance(7)
        client.finish()
        origin.finish()
        [line] = self.world.access.lines
        self.assertEqual((line[1], line[2], line[5], line[6]), (b"GET", b"/ws/client/", 101, 1000))
        self.assertTrue(7 <= line[7] < 8)


class _Closing:
    """A gateway for a relay without its HTTP."""

    def __init__(self, world: World) -> None:
        self.deadlines = world.deadlines
        self.timeouts = world.settings.timeouts
        self.relays: set[Relay] = set()
        self.over: list[Any] = []
        self.finished = self.over.append


class SocketTests(SynchronousTestCase):
    """Two pairs of streams over socket pairs, plain and TLS, with a relay between them.

    `left.client` and `right.client` are the peers.
    """

    secure = False

    def setUp(self) -> None:
        self.left, self.right = Pair(), Pair()
        for pair in (self.left, self.right):
            self.addCleanup(pair.close)
            if self.secure:
                pair.start_tls()
                pair.until(lambda pair=pair: pair.here.handshake and pair.there.handshake)
                pair.turn()
        self.world = World(Settings())
        self.gateway: Any = _Closing(self.world)

        class Exchange:
            sent = 0
            head = RequestHead(b"GET", b"/ws/client/", 11, [])
            site = self.world.site

        self.exchange: Any = Exchange()
        for pair in (self.left, self.right):
            pair.server.bufferSize = 65536
        Relay(self.gateway, self.exchange, self.left.server, self.right.server, b"")

    def turn(self, turns: int = 20) -> None:
        for _ in range(turns):
            self.left.turn(1)
            self.right.turn(1)

    def until(self, condition: Any) -> None:
        for _ in range(5000):
            if condition():
                return
            self.turn(1)
        raise AssertionError("it did not happen")

    def test_both_directions(self) -> None:
        data = bytes(range(256)) * 8192  # 2 MiB: more than the kernel takes at once
        self.left.client.write(data)
        self.right.client.write(data[::-1])
        both = (self.left.there, self.right.there)
        self.until(lambda: all(len(peer.received) == len(data) for peer in both))
        self.assertEqual(self.right.there.received, data)
        self.assertEqual(self.left.there.received, data[::-1])

    def test_a_peer_that_does_not_read(self) -> None:
        """What is buffered for it is bounded, and the other side's input stays with its kernel."""
        for slow, fast in ((self.left, self.right), (self.right, self.left)):
            slow.client.pauseProducing()
            data = b"x" * 8_000_000
            fast.client.write(data)
            self.turn(200)
            self.assertTrue(fast.client.buffered > 4_000_000)
            self.assertTrue(0 < slow.server.buffered <= 2 * 65536 + 65536)
            slow.client.resumeProducing()
            self.until(lambda peer=slow.there: len(peer.received) == 8_000_000)
            self.assertEqual(slow.server.buffered, 0)

    def test_the_end_comes_after_all_data(self) -> None:
        self.right.client.pauseProducing()
        data = b"x" * 3_000_000
        self.left.client.write(data)
        self.left.client.loseConnection()
        self.turn(200)
        self.right.client.resumeProducing()
        self.until(lambda: self.right.there.lost is not None)
        self.assertEqual(len(self.right.there.received), len(data))
        self.assertEqual(self.right.there.lost.type.__name__, "ConnectionDone")  # type: ignore[union-attr]
        self.until(lambda: self.gateway.over)
        self.assertEqual(self.gateway.over, [self.exchange])
        self.assertEqual(self.gateway.relays, set())

    def test_a_side_that_still_sends_loses_nothing(self) -> None:
        """Closing with its input unread would be a reset, which takes away what was flushed."""
        self.left.client.pauseProducing()
        self.right.client.write(b"x" * 100_000)
        self.right.client.loseConnection()
        self.until(lambda: self.right.there.lost is not None)
        self.turn()
        for _ in range(3):
            self.left.client.write(b"still here")
            self.turn()
        self.left.client.resumeProducing()
        self.until(lambda: self.left.there.lost is not None)
        self.assertEqual(len(self.left.there.received), 100_000)
        self.assertEqual(self.left.there.lost.type.__name__, "ConnectionDone")  # type: ignore[union-attr]
        self.until(lambda: self.gateway.over)

    def test_a_side_that_does_not_close(self) -> None:
        """It took everything, so it is closed after timeouts.linger."""
        deaf = self.left.client
        deaf.doRead = lambda: deaf.socket.recv(65536) and None  # type: ignore[method-assign]
        self.right.client.loseConnection()
        self.turn()
        self.assertEqual(self.gateway.over, [])
        self.world.advance(2.5)
        self.turn()
        self.assertEqual(self.gateway.over, [self.exchange])

    def test_a_side_that_breaks(self) -> None:
        self.left.client.abortConnection()
        self.until(lambda: self.right.there.lost is not None)
        self.until(lambda: self.gateway.over)


class TLSSocketTests(SocketTests):
    secure = True
