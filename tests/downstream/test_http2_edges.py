"""What happens between the rules of HTTP/2: orders of events, ends inside of ends."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame, Frame, HeadersFrame, PingFrame, RstStreamFrame
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from authproxy.downstream.http2 import BARRIER, UNREAD
from authproxy.downstream.http2_gate import FRAMES
from authproxy.errors import ConnectFailed
from authproxy.settings import Limits, Listen, PoolSettings, Settings
from authproxy.upstream.pool import Server
from authproxy.wire.websocket import accept_value

from ..http2_client import Client, request
from ..world import OK, World, fields_of, say

EXPECT = (b"expect", b"100-continue")


def headers(client: Client, number: int, fields: Any, *, ended: bool = True) -> HeadersFrame:
    """A HEADERS frame that is a whole head."""
    frame = HeadersFrame(number, client.block(fields))
    frame.flags.add("END_HEADERS")
    if ended:
        frame.flags.add("END_STREAM")
    return frame


def reset(number: int) -> RstStreamFrame:
    """A client's RST_STREAM."""
    return RstStreamFrame(number, int(ErrorCodes.CANCEL))


def ack(data: bytes) -> Frame:
    """The answer to a PING."""
    frame = PingFrame(0, data)
    frame.flags.add("ACK")
    return frame


class ContentTests(SynchronousTestCase):
    """A client that asks for a 100, and sends without having got it (RFC 9110 10.1.1)."""

    def setUp(self) -> None:
        self.world = World(Settings())
        self.client = Client(self.world)
        self.number = self.client.h2.get_next_available_stream_id()
        fields = request(b"/", (b"content-length", b"5"), EXPECT, method=b"PUT")
        self.client.h2.send_headers(self.number, fields)
        self.client.talk()
        self.world.advance(1)

    def send(self, data: bytes, *, ended: bool) -> None:
        self.client.h2.send_data(self.number, data, ended)
        self.client.talk()

    def test_all_of_it(self) -> None:
        self.send(b"hello", ended=True)
        [origin] = self.world.origins
        self.assertTrue(origin.take().endswith(b"\r\n\r\nhello"))
        say(origin, OK)
        self.client.talk()
        self.assertEqual(self.client.status(self.number), 200)

    def test_some_of_it(self) -> None:
        self.send(b"he", ended=False)
        self.world.advance(29)
        self.client.talk()
        self.assertEqual(self.client.status(self.number), 0)
        self.world.advance(2)
        self.client.talk()
        self.assertEqual(self.client.status(self.number), 408)


class LengthTests(SynchronousTestCase):
    """Trailers end a request too; the library compares the length only at the end of DATA."""

    def test_trailers_before_all_of_it_is_here(self) -> None:
        """Upstream would take the rest from the next request on its connection."""
        for limit in (1024, 131072):  # it streams; it was collected
            world = World(evolve(Settings(), limits=evolve(Limits(), body_collect=limit)))
            client = Client(world)
            fields = request(b"/", (b"content-length", b"2000"), method=b"POST")
            client.raw(
                headers(client, 1, fields, ended=False),
                DataFrame(1, b"x" * 1500),
                headers(client, 1, [(b"x-sum", b"1")]),
            )
            self.assertEqual(client.world.access.statuses, [400])
            self.assertEqual([origin.ended for origin in world.origins], ["abort"][: limit == 1024])
            self.assertEqual(world.pool.open, 0)

    def test_trailers_after_it(self) -> None:
        world = World(Settings())
        client = Client(world)
        fields = request(b"/", (b"content-length", b"5"), method=b"POST")
        client.raw(
            headers(client, 1, fields, ended=False),
            DataFrame(1, b"hello"),
            headers(client, 1, [(b"x-sum", b"1")]),
        )
        self.assertTrue(world.origins[0].take().endswith(b"\r\n\r\nhello"))


class TunnelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(
            evolve(
                Settings(),
                listen=evolve(Listen(), http2_websockets=True),
                limits=evolve(Limits(), buffer=1024),
            )
        )
        self.client = Client(self.world)
        fields = [
            (b":method", b"CONNECT"),
            (b":protocol", b"websocket"),
            *request(b"/ws", (b"sec-websocket-version", b"13"))[1:],
        ]
        self.number = self.client.h2.get_next_available_stream_id()
        self.client.h2.send_headers(self.number, fields)
        self.client.talk()
        [self.origin] = self.world.origins
        self.key = {name.lower(): value for name, value in fields_of(self.origin.take())}[
            b"sec-websocket-key"
        ]

    def switch(self, early: bytes = b"") -> None:
        say(
            self.origin,
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_value(self.key) + b"\r\n\r\n" + early,
        )

    def test_trailers_end_it(self) -> None:
        """RFC 9113 8.5 knows only DATA there. Half a tunnel would stay for an hour."""
        self.switch()
        self.client.talk()
        self.client.raw(headers(self.client, self.number, [(b"x", b"y")]))
        self.client.talk()
        self.assertEqual(self.client.reset(self.number), ErrorCodes.PROTOCOL_ERROR)
        self.assertEqual(self.origin.ended, "half")

    def test_trailers_before_the_101(self) -> None:
        self.client.raw(headers(self.client, self.number, [(b"x", b"y")]))
        self.client.talk()
        self.assertEqual(self.client.reset(self.number), ErrorCodes.PROTOCOL_ERROR)
        self.assertEqual((self.origin.ended, self.world.gateway.exchanges), ("abort", 0))

    def test_much_that_comes_with_the_101(self) -> None:
        """It fills the buffer before there is a relay that could be told."""
        self.client.h2.update_settings({4: 0})
        self.client.h2.increment_flow_control_window(1 << 20)
        self.client.talk()
        number = self.number
        self.client.server.h2.streams[number].outbound_flow_control_window = 0
        self.switch(b"x" * 2000)
        self.assertTrue(self.origin.paused)
        self.client.talk()
        self.client.h2.increment_flow_control_window(4000, number)
        self.client.talk()
        self.assertFalse(self.origin.paused)
        self.assertEqual(self.client.content(number), b"x" * 2000)


class OrderTests(SynchronousTestCase):
    def world(self, **pool: Any) -> World:
        return World(evolve(Settings(), pool=evolve(PoolSettings(), **pool)))

    def failing(self, world: World) -> None:
        """No dial succeeds from now on, and that is known at once."""

        def dial(server: Server) -> Deferred[Any]:
            result: Deferred[Any] = Deferred()
            result.errback(ConnectFailed("no descriptor is left"))
            return result

        world.pool.dial_with(dial)

    def test_trailers_and_a_reset_in_one_segment(self) -> None:
        """What is taken back is not begun, and the next request is no victim of it."""
        world = self.world()
        client = Client(world)
        self.failing(world)
        client.raw(headers(client, 1, request(method=b"POST"), ended=False))
        client.raw(
            headers(client, 1, [(b"x-sum", b"1")]),
            reset(1),
            headers(client, 3, request()),
        )
        self.assertEqual(client.transport.ended, "")
        self.assertEqual(world.pool.counts.dials, 1)
        self.assertEqual(world.access.statuses, [499, 503])

    def test_bad_trailers_and_a_reset_in_one_segment(self) -> None:
        client = Client(self.world())
        client.raw(headers(client, 1, request(method=b"POST"), ended=False))
        client.raw(
            headers(client, 1, [(b"X", b"1")]),
            reset(1),
            headers(client, 3, request()),
        )
        self.assertEqual(client.transport.ended, "")
        self.assertEqual(len(client.world.origins), 1)

    def test_a_failed_dial_while_the_connection_ends(self) -> None:
        """One stream's end lets another have its turn, which fails: every stream ends."""
        world = self.world(connections=1)
        client = Client(world)
        for _ in range(3):
            client.ask()
        self.failing(world)
        client.transport.finish()
        self.assertEqual(world.gateway.exchanges, 0)
        self.assertEqual(world.gateway.connections, set())
        self.assertEqual(world.pool.waiting, 0)

    def test_a_failed_dial_after_an_error(self) -> None:
        world = self.world(connections=1)
        client = Client(world)
        for _ in range(3):
            client.ask()
        self.failing(world)
        client.raw(b"\0\0\0\0\0\0\0\0\0")  # DATA of no stream
        self.assertEqual((client.transport.ended, world.gateway.exchanges), ("half", 0))

    def test_ends_once(self) -> None:
        """A fault in the segment that ended it leaves nothing behind."""
        world = self.world()
        client = Client(world)
        client.raw(headers(client, 1, request()))
        client.server._gate.resets._left = 0
        client.server.drain()
        say(world.origins[0], OK)
        # The barrier's answer is the end; then a stream that makes us reset it.
        client.raw(ack(BARRIER), headers(client, 3, request()), DataFrame(3, b"x"))
        client.transport.finish()
        self.assertEqual(world.gateway.connections, set())
        # The pool, its idle connection, what counts faults, and what waits.
        self.assertEqual(len(world.deadlines), 4)


class BoundTests(SynchronousTestCase):
    def test_requests_after_the_last(self) -> None:
        """They are refused, and earn nothing."""
        world = World(Settings())
        client = Client(world)
        client.ask()
        client.server.drain()
        client.raw(ack(BARRIER))
        for number in range(3, 4 * FRAMES, 2):
            if client.transport.ended:
                break
            client.raw(headers(client, number, request()))
        self.assertLess(number // 2, FRAMES + 10)
        self.assertEqual(len(world.origins), 1)

    def test_answers_without_content_to_who_does_not_read(self) -> None:
        """Heads are made at once: they alone must not fill the memory."""
        world = World(Settings())
        client = Client(world)
        client.ask()
        client.server.turns.pauseProducing()
        client.transport.buffered = UNREAD
        client.raw(headers(client, 3, request()))
        self.assertEqual(client.transport.ended, "")
        client.transport.buffered += 1
        client.raw(headers(client, 5, request()))
        self.assertEqual(client.transport.ended, "half")
        self.assertEqual(world.gateway.exchanges, 0)

    def test_small_frames_of_uploads_are_no_flood(self) -> None:
        """They come with the heads, before there is a stream that they belong to."""
        client = Client(World(Settings()))
        for number in range(1, 61, 2):
            content = [DataFrame(number, b"x" * 1000) for _ in range(60)]
            content[-1].flags.add("END_STREAM")
            client.raw(headers(client, number, request(method=b"POST"), ended=False), *content)
            client.world.clock.advance(0)
        self.assertEqual((client.transport.ended, len(client.world.origins)), ("", 30))

    def test_small_frames_after_a_reset_are_one(self) -> None:
        client = Client(World(Settings()))
        content = [DataFrame(1, b"x")] * 2 * FRAMES
        head = headers(client, 1, request(method=b"POST"), ended=False)
        client.raw(head, reset(1), *content)
        client.world.clock.advance(0)
        self.assertEqual(client.transport.ended, "half")


class WindowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(Settings())
        self.client = Client(self.world)

    def answered(self, octets: int) -> int:
        """A request, and its answer of so many octets on its way."""
        number = self.client.ask()
        say(
            self.world.origins[-1],
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % octets + b"x" * octets,
        )
        self.client.talk()
        return number

    def test_none_to_begin_with_and_then_some(self) -> None:
        """RFC 9113 6.9.2: a change of the initial window opens those of all streams."""
        self.client.h2.update_settings({4: 0})
        self.client.talk()
        numbers = [self.answered(500) for _ in range(3)]
        self.assertEqual([self.client.content(number) for number in numbers], [b""] * 3)
        self.client.h2.update_settings({4: 100})
        self.client.talk()
        self.assertEqual([len(self.client.content(number)) for number in numbers], [100] * 3)
        self.client.h2.update_settings({4: 0})  # the windows are below nothing now
        self.client.talk()
        self.client.h2.update_settings({4: 600})
        self.client.talk()
        self.assertEqual([self.client.ended(number) for number in numbers], [True] * 3)

    def test_sizes_of_the_table_are_told_as_the_client_expects(self) -> None:
        for sizes in ([65536], [0], [(1 << 32) - 1], [100], [65536, 50], [50, 50], [0, 65536]):
            for size in sizes:
                self.client.h2.update_settings({1: size})
                self.client.talk()
            number = self.answered(5)
            self.assertEqual(self.client.status(number), 200)
            self.assertLessEqual(self.client.server.h2.encoder.header_table_size, 4096)

    def test_tcp_that_takes_nothing(self) -> None:
        self.client.ask()  # not idle
        transport = self.client.transport
        for taken, ended in ((30_001, ""), (29_999, "abort")):
            transport.buffered = 100_000
            self.client.server.turns.pauseProducing()
            self.world.advance(59)
            transport.buffered -= taken
            self.assertEqual(transport.ended, "")
            self.world.advance(2)
            self.assertEqual(transport.ended, ended)
            self.client.server.turns.resumeProducing()
        self.assertEqual(self.world.gateway.refused["the client did not read its response"], 1)

    def test_tcp_that_takes_everything_in_time(self) -> None:
        self.client.ask()
        self.client.transport.buffered = 100_000
        self.client.server.turns.pauseProducing()
        self.world.advance(59)
        self.client.transport.buffered = 0
        self.client.server.turns.resumeProducing()
        self.world.advance(5)
        self.assertEqual(self.client.transport.ended, "")

    def test_nothing_is_made_for_a_full_transport(self) -> None:
        number = self.client.ask()
        self.client.server.turns.pauseProducing()
        [origin] = self.world.origins
        say(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n" + b"x" * 70_000)
        self.client.talk()
        self.assertEqual(self.client.content(number), b"")
        self.assertTrue(origin.paused)
        self.client.server.turns.resumeProducing()
        self.client.talk()
        self.assertEqual(len(self.client.content(number)), 65535)
        self.assertFalse(origin.paused)


class CreditTests(SynchronousTestCase):
    """What streams took of the connection's window comes back, however they end."""

    def credit(self, client: Client) -> int:
        """Octets of the window that are free, or that the next WINDOW_UPDATE gives back."""
        manager = client.server.h2._inbound_flow_control_window_manager
        return manager.current_window_size + manager._bytes_processed

    def test_reset_while_upstream_takes_nothing(self) -> None:
        world = World(evolve(Settings(), limits=evolve(Limits(), body_collect=1024)))
        client = Client(world)
        whole = self.credit(client)
        for number in range(1, 81, 2):
            head = headers(client, number, request(method=b"POST"), ended=False)
            client.raw(head, DataFrame(number, b"x" * 2000))
            world.origins[-1].protocol.pauseProducing()
            client.raw(DataFrame(number, b"x" * 16000), DataFrame(number, b"x" * 16000))
            self.assertEqual(self.credit(client), whole - 32000)
            client.raw(reset(number))
            self.assertEqual(self.credit(client), whole)

    def test_taken_back_at_once(self) -> None:
        client = Client(World(Settings()))
        whole = self.credit(client)
        for number in range(1, 161, 2):
            head = headers(client, number, request(method=b"POST"), ended=False)
            client.raw(head, DataFrame(number, b"x" * 16000), reset(number))
        self.assertEqual((self.credit(client), client.transport.ended), (whole, ""))


class HeadTests(SynchronousTestCase):
    def test_limit_of_what_unpacks(self) -> None:
        """limits.head_bytes, not the library's own."""
        client = Client(World(evolve(Settings(), limits=evolve(Limits(), head_bytes=8192))))
        block = client.block(request(b"/", (b"x", b"y" * 3000)))
        frame = HeadersFrame(1, block + b"\xbe" * 3)
        frame.flags |= {"END_HEADERS", "END_STREAM"}
        client.raw(frame)
        self.assertEqual((client.transport.ended, client.world.origins), ("half", []))
