"""One connection to upstream: what it writes, what it tells its lessee, when it is free again."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from authproxy.deadlines import NEVER, RESOLUTION, Deadlines
from authproxy.errors import ConnectionCut, TimedOut
from authproxy.settings import Timeouts
from authproxy.upstream import connection
from authproxy.upstream.connection import MOST_INFORMATIONAL, Connection
from authproxy.wire import serialise
from authproxy.wire.errors import ProtocolError
from authproxy.wire.heads import CHUNKED, Fields, HeadLimits, RequestHead, ResponseHead
from authproxy.wire.responses import parse_response

from ..transports import FakeTransport, connect

LIMITS = HeadLimits(4096, 4096, 20)
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 1.3
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


class FakeServer:
    """What a connection tells its pool."""

    upstream = "http://authentik.example:9000"

    def __init__(self) -> None:
        self.given_back: list[Connection] = []
        self.forgotten: list[Connection] = []
        self.pool = self

    def give_back(self, connection: Connection) -> None:
        self.given_back.append(connection)

    def forget(self, connection: Connection) -> None:
        self.forgotten.append(connection)


class Lessee:
    """Keeps what it is told; content is joined, so that segments do not show."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.flushed = 0
        self.failure: Exception | None = None

    def _tell(self, *entry: Any) -> None:
        self.told.append(entry)

    def response_informational(self, head: ResponseHead) -> None:
        self._tell("informational", head.status)

    def response_whole(self, head: ResponseHead, content: bytes) -> None:
        """Kept as its parts: most tests need not know in which way it was told."""
        self.response_head(head)
        if content:
            self.response_content(content)
        self.response_end([])

    def response_head(self, head: ResponseHead) -> None:
        self._tell("head", head.status)

    def response_content(self, data: bytes) -> None:
        if self.told[-1][0] == "content":
            data = self.told.pop()[1] + data
        self._tell("content", data)

    def response_end(self, trailers: Fields) -> None:
        self._tell("end", trailers)

    def response_flush(self) -> None:
        self.flushed += 1

    def response_switching(self, head: ResponseHead, early: bytes) -> None:
        self._tell("switching", early)

    def upstream_failed(self, error: Exception) -> None:
        self.failure = error
        self._tell("failed", type(error))

    def pause_request(self) -> None:
        self._tell("pause")

    def resume_request(self) -> None:
        self._tell("resume")


def head(method: bytes = b"GET", length: int = 0, upgrade: bool = False) -> RequestHead:
    """A request head as forwarding makes it."""
    fields: Fields = [(b"host", b"sso.example.com")]
    if upgrade:
        fields.append((b"sec-websocket-key", KEY))
    return RequestHead(method, b"/", 11, fields, b"sso.example.com", length, upgrade=upgrade)


class _Tests(SynchronousTestCase):
    def setUp(self) -> None:
        self.connect()

    def connect(self) -> None:
        """A new connection and a new lessee."""
        self.clock = Clock()
        self.clock.advance(1000)
        self.deadlines = Deadlines(self.clock, self.clock.seconds)
        self.deadlines.start()
        self.lessee = Lessee()
        self.server = FakeServer()
        self.connection = Connection(
            self.server,
            self.deadlines,
            Timeouts(),
            LIMITS,
            1234,  # type: ignore[arg-type]
        )
        self.transport: FakeTransport = connect(self.connection)

    def start(self, method: bytes = b"GET") -> None:
        self.send(head(method), b"", True)

    def send(self, sent: RequestHead, content: bytes, ended: bool, trailers: Fields = []) -> None:  # noqa: B006
        fields = serialise.section(sent.fields)
        self.connection.start(self.lessee, sent, fields, content, ended, trailers)

    def say(self, data: bytes) -> None:
        self.connection.dataReceived(data)

    def lose(self, error: Exception) -> None:
        self.transport.connected = False
        self.connection.connectionLost(Failure(error))

    def advance(self, seconds: float) -> None:
        self.clock.pump([RESOLUTION] * round(seconds / RESOLUTION))

    def assert_gone(self) -> None:
        """It was never given back, and nothing of it is left in the pool or among deadlines."""
        self.assertEqual(self.server.given_back, [])
        self.assertIn(self.connection, self.server.forgotten)
        self.assertEqual(len(self.deadlines), 0)


class RequestTests(_Tests):
    def test_buffer_is_bounded_and_produced(self) -> None:
        self.assertEqual(self.transport.bufferSize, 1234)
        self.assertIs(self.transport.producer, self.connection)

    def test_head_and_content_are_one_write(self) -> None:
        writes: list[bytes] = []
        self.transport.write = writes.append  # type: ignore[method-assign, assignment]
        self.send(head(b"PUT", 5), b"hello", True)
        trailers = [(b"x-sum", b"1")]
        self.send(head(b"PUT", CHUNKED), b"hello", True, trailers)
        self.assertEqual(len(writes), 2)
        self.assertTrue(writes[0].startswith(b"PUT / HTTP/1.1\r\nhost: "))
        self.assertTrue(writes[0].endswith(b"\r\n\r\nhello"))
        self.assertTrue(writes[1].endswith(b"\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"))

    def test_chunked_without_content(self) -> None:
        self.send(head(b"PUT", CHUNKED), b"", True)
        self.assertTrue(self.transport.take().endswith(b"\r\n\r\n0\r\n\r\n"))

    def test_streamed(self) -> None:
        for length, expected in ((CHUNKED, b"3\r\nabc\r\n0\r\n\r\n"), (3, b"abc")):
            self.send(head(b"PUT", length), b"", False)
            self.transport.take()
            self.connection.send_content(b"abc")
            self.connection.send_end([])
            self.assertEqual(self.transport.take(), expected)

    def test_backpressure(self) -> None:
        self.send(head(b"PUT", 10), b"abc", False)
        self.connection.pauseProducing()
        self.connection.resumeProducing()
        self.assertEqual(self.lessee.told, [("pause",), ("resume",)])


class ResponseTests(_Tests):
    TABLE: tuple[tuple[bytes, bytes, list[bytes], Fields], ...] = (
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", [b"hello"], []),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", [], []),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", [], []),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", [], []),
        (
            b"GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n",
            [b"hello"],
            [(b"x", b"y")],
        ),
    )

    def test_however_it_is_cut(self) -> None:
        for method, response, content, trailers in self.TABLE:
            status = int(response[9:12])
            expected = [("head", status), *(("content", c) for c in content), ("end", trailers)]
            for cut in range(len(response)):
                self.connect()
                self.start(method)
                if cut:
                    self.say(response[:cut])
                self.say(response[cut:])
                self.assertEqual(self.lessee.told, expected, (response, cut))
                self.assertEqual(self.server.given_back, [self.connection])
                self.assertEqual(self.transport.ended, "")

    def test_byte_by_byte(self) -> None:
        for method, response, content, trailers in self.TABLE:
            self.connect()
            self.start(method)
            for byte in response:
                self.say(bytes([byte]))
            expected = [("content", c) for c in content]
            self.assertEqual(self.lessee.told[1:], [*expected, ("end", trailers)])
            self.assertEqual(self.lessee.flushed, len(response) - 1)  # the end is its own flush

    def test_a_head_that_drips_is_not_read_from_its_start_each_time(self) -> None:
        given = 0

        def parse(data: bytes, *arguments: Any) -> Any:
            nonlocal given
            given += len(data)
            return parse_response(data, *arguments)

        self.patch(connection, "parse_response", parse)
        self.start()
        head = b"HTTP/1.1 200 OK\r\nX: " + b"y" * 3000 + b"\r\nContent-Length: 5\r\n\r\n"
        for octet in head:
            self.say(bytes([octet]))
        self.say(b"hello")
        self.assertEqual(self.lessee.told[1:], [("content", b"hello"), ("end", [])])
        self.assertLess(given, 2 * len(head))

    def test_each_segment_is_flushed_once(self) -> None:
        self.start()
        self.say(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
        self.assertEqual(self.lessee.flushed, 1)

    def test_informational_is_bounded(self) -> None:
        self.start()
        self.say(b"HTTP/1.1 103 Early Hints\r\n\r\n" * MOST_INFORMATIONAL)
        self.assertEqual(self.lessee.told, [("informational", 103)] * MOST_INFORMATIONAL)
        self.say(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        self.assertIsInstance(self.lessee.failure, ProtocolError)
        self.assert_gone()

    def test_bounds_are_for_each_request(self) -> None:
        for _ in range(3):
            self.start()
            self.say(b"HTTP/1.1 103 Early Hints\r\n\r\n" * MOST_INFORMATIONAL)
            self.say(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.assertEqual(len(self.server.given_back), 3)
        self.assertEqual(self.connection.requests, 3)

    def test_silent_until_the_first_byte(self) -> None:
        self.start()
        self.assertTrue(self.connection.silent)
        self.say(b"H")
        self.assertFalse(self.connection.silent)
        self.say(b"TTP/1.1 204 No Content\r\n\r\n")
        self.start()
        self.assertTrue(self.connection.silent)

    def test_what_keeps_it_from_being_used_again(self) -> None:
        for response, ended in (
            (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", "lose"),
            (b"HTTP/1.0 204 No Content\r\n\r\n", "lose"),
            (b"HTTP/1.1 204 No Content\r\n\r\nsurplus", "abort"),
        ):
            self.connect()
            self.start()
            self.say(response)
            self.assertEqual(self.lessee.told, [("head", 204), ("end", [])])
            self.assertEqual(self.transport.ended, ended)
            self.assert_gone()

    def test_it_is_free_when_the_lessee_hears_of_the_end(self) -> None:
        """So that the next request of a pipeline finds it."""
        free: list[bool] = []

        def ended(trailers: Fields) -> None:
            free.append(self.server.given_back == [self.connection])
            self.start()

        self.lessee.response_end = ended  # type: ignore[method-assign]
        self.start()
        self.say(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.assertEqual((free, self.connection.requests), ([True], 2))
        self.say(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.assertEqual(self.lessee.told, [("head", 204)] * 2)

    def test_cancelled_by_what_it_tells(self) -> None:
        """Nothing more is told to who gave the lease up in the middle of a segment."""
        responses = (
            ("response_informational", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
            ("response_head", b""),
            ("response_content", b""),
        )
        for name, before in responses:
            for framing in (
                b"Content-Length: 50\r\n\r\nhello",
                b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ):
                self.connect()
                setattr(self.lessee, name, lambda _: self.connection.abort())
                self.start()
                self.say(before + b"HTTP/1.1 200 OK\r\n" + framing)
                told = [entry[0] for entry in self.lessee.told]
                self.assertEqual(told, ["head"] if name == "response_content" else [])
                self.assert_gone()

    def test_bytes_that_nobody_asked_for(self) -> None:
        self.say(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        self.assertEqual(self.transport.ended, "abort")
        self.assert_gone()


class SwitchingTests(_Tests):
    def upgrade(self) -> None:
        self.send(head(upgrade=True), b"", True)

    def test_proper(self) -> None:
        self.upgrade()
        self.say(SWITCHING + b"early")
        self.assertEqual(self.lessee.told, [("switching", b"early")])
        self.assertEqual(self.transport.ended, "")
        self.assertIsNone(self.transport.producer)
        self.assert_gone()  # the relay's now

    def test_improper(self) -> None:
        for bad in (
            SWITCHING.replace(b"s3p", b"S3p"),
            SWITCHING.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
            SWITCHING.replace(b"Upgrade: websocket\r\n", b""),
            SWITCHING.replace(b"Connection: Upgrade", b"Connection: close"),
            SWITCHING.replace(b"Connection: Upgrade\r\n", b""),
            SWITCHING.replace(b"HTTP/1.1", b"HTTP/1.0"),
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        ):
            self.connect()
            self.upgrade()
            self.say(bad)
            self.assertEqual(self.lessee.told, [("failed", ProtocolError)], bad)
            self.assertEqual(self.transport.ended, "abort")
            self.assert_gone()

    def test_unasked(self) -> None:
        self.start()
        self.say(SWITCHING)
        self.assertEqual(self.lessee.told, [("failed", ProtocolError)])
        self.assert_gone()

    def test_the_key_of_an_earlier_request_does_not_count(self) -> None:
        self.upgrade()
        self.say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        self.start()
        self.say(SWITCHING)
        self.assertEqual(self.lessee.told[-1], ("failed", ProtocolError))


class EndTests(_Tests):
    def test_cut(self) -> None:
        for response in (b"", b"HTTP/1.1 200", b"HTTP/1.1 100 Continue\r\n\r\n"):
            self.connect()
            self.start()
            if response:
                self.say(response)
            self.lose(ConnectionDone())
            self.assertEqual(self.lessee.told[-1], ("failed", ConnectionCut))
            self.assert_gone()

    def test_cut_in_the_body(self) -> None:
        for framing in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
            for error in (ConnectionDone(), ConnectionLost()):
                self.connect()
                self.start()
                self.say(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
                self.lose(error)
                self.assertEqual([entry[0] for entry in self.lessee.told], ["head", "failed"])

    def test_until_close(self) -> None:
        self.start()
        self.say(b"HTTP/1.1 200 OK\r\n\r\nabc")
        self.lose(ConnectionDone())
        self.assertEqual(self.lessee.told, [("head", 200), ("content", b"abc"), ("end", [])])
        self.assert_gone()

    def test_until_a_reset(self) -> None:
        self.start()
        self.say(b"HTTP/1.1 200 OK\r\n\r\nabc")
        self.lose(ConnectionLost())
        self.assertEqual(self.lessee.told[-1], ("failed", ConnectionCut))

    def test_idle(self) -> None:
        self.lose(ConnectionDone())
        self.assert_gone()

    def test_abort_and_close_tell_nobody(self) -> None:
        for end, ended in ((Connection.abort, "abort"), (Connection.close, "lose")):
            self.connect()
            self.start()
            end(self.connection)
            self.say(b"HTTP/1.1 200 OK\r\n\r\n")
            self.transport.finish()
            self.assertEqual((self.lessee.told, self.transport.ended), ([], ended))
            self.assert_gone()


class DeadlineTests(_Tests):
    def test_first_byte(self) -> None:
        self.start()
        self.advance(61)
        self.assertIsInstance(self.lessee.failure, TimedOut)
        self.assertIn("timeouts.first_byte", str(self.lessee.failure))
        self.assert_gone()

    def test_it_runs_from_the_last_of_the_request(self) -> None:
        self.send(head(b"PUT", 10), b"", False)
        self.advance(50)
        self.connection.send_content(b"x" * 10)
        self.connection.send_end([])
        self.advance(50)
        self.assertIsNone(self.lessee.failure)
        self.advance(11)
        self.assertIsInstance(self.lessee.failure, TimedOut)

    def test_between_segments(self) -> None:
        self.start()
        self.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        self.advance(59)
        self.say(b"h")
        self.advance(59)
        self.assertIsNone(self.lessee.failure)
        self.advance(2)
        self.assertIn("timeouts.upstream_idle", str(self.lessee.failure))

    def test_none_while_the_client_does_not_read(self) -> None:
        self.start()
        self.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        self.connection.pause_reading()
        self.assertTrue(self.transport.paused)
        self.say(b"h")  # was on its way
        self.assertEqual(self.connection.deadline, NEVER)
        self.advance(1000)
        self.connection.resume_reading()
        self.assertFalse(self.transport.paused)
        self.advance(61)
        self.assertIsInstance(self.lessee.failure, TimedOut)

    def test_idle(self) -> None:
        """What the pool sets when it keeps the connection."""
        self.connection.deadline = self.deadlines.now() + 25
        self.advance(26)
        self.assertEqual(self.transport.ended, "lose")
        self.assert_gone()

    def test_a_paused_connection_comes_back_reading(self) -> None:
        self.start()
        self.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        self.connection.pause_reading()
        self.say(b"hello")
        self.assertFalse(self.transport.paused)
        self.assertEqual(self.server.given_back, [self.connection])
