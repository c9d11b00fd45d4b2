"""Requests and answers over HTTP/2, as conversations on fake transports."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from h2.errors import ErrorCodes
from h2.events import InformationalResponseReceived, TrailersReceived, WindowUpdated
from hyperframe.frame import (
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    WindowUpdateFrame,
)
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from authproxy.settings import Limits, Listen, Settings, Timeouts
from authproxy.wire.websocket import accept_value

from ..http2_client import Client, is_goaway, request
from ..http2_client import frames as frames_of
from ..world import OK, World, fields_of, say

POST = b"POST"


class _Tests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(self.settings())
        self.client = Client(self.world)

    def settings(self) -> Settings:
        return Settings()

    def origin(self, number: int = -1) -> Any:
        """The upstream connection that was dialled last, or another."""
        return self.world.origins[number]

    def answer(self, data: bytes, number: int = -1) -> None:
        """Upstream says this, and the client hears what comes of it."""
        say(self.origin(number), data)
        self.client.talk()

    def assert_pooled(self, count: int) -> None:
        """So many upstream connections are idle, and nobody has one."""
        [server] = self.world.pool.servers
        self.assertEqual((len(server.idle), server.leased), (count, 0))


class RequestTests(_Tests):
    def test_get(self) -> None:
        fields = request(
            b"/a?b=c", (b"user-agent", b"me"), (b"cookie", b"a=1"), (b"cookie", b"b=2")
        )
        number = self.client.ask(fields)
        sent = self.origin().take()
        self.assertTrue(sent.startswith(b"GET /a?b=c HTTP/1.1\r\n"))
        self.assertEqual(
            fields_of(sent),
            [
                (b"host", b"sso.example.com"),
                (b"user-agent", b"me"),
                (b"cookie", b"a=1; b=2"),
                (b"x-forwarded-for", b"198.51.100.7"),
                (b"x-forwarded-host", b"sso.example.com"),
                (b"x-forwarded-proto", b"https"),
                (b"via", b"2.0 authproxy"),
            ],
        )
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\n\r\nhello")
        self.assertEqual(
            self.client.fields(number),
            [(b":status", b"200"), (b"content-length", b"5"), (b"set-cookie", b"a=b")],
        )
        self.assertEqual(self.client.content(number), b"hello")
        self.assertTrue(self.client.ended(number))
        self.assertTrue(self.client.opening.is_proven)
        self.assert_pooled(1)
        self.assertEqual(self.world.access.lines[0][:6],
                         ("198.51.100.7", b"GET", b"/a?b=c", 20, b"sso.example.com", 200))  # fmt: skip

    def test_forged_fields(self) -> None:
        forged = [
            (name, b"192.0.2.66") for name in (b"x-forwarded-for", b"forwarded", b"x-real-ip")
        ]
        self.client.ask(request(b"/", *forged, (b"x_forwarded_for", b"192.0.2.66")))
        self.assertNotIn(b"192.0.2.66", self.origin().take())

    def test_port_of_the_authority(self) -> None:
        fields = request()
        fields[2] = (b":authority", b"sso.example.com:8443")
        self.client.ask(fields)
        self.assertIn((b"host", b"sso.example.com:8443"), fields_of(self.origin().take()))

    def test_repeated_requests(self) -> None:
        """One that repeats the fields of another is still itself."""
        for path in (b"/1", b"/2", b"/3"):
            number = self.client.ask(request(path, (b"accept", b"*/*")))
            sent = self.origin().take()
            self.assertTrue(sent.startswith(b"GET " + path + b" "), sent)
            self.assertEqual(dict(fields_of(sent))[b"accept"], b"*/*")
            self.answer(OK)
            self.assertEqual(self.client.status(number), 200)
        other = request(b"/4", (b"accept", b"*/*"))
        other[2] = (b":authority", b"other.example.com")
        self.client.ask(other)
        self.assertEqual(dict(fields_of(self.origin().take()))[b"host"], b"other.example.com")

    def test_content_with_its_length(self) -> None:
        self.client.ask(request(b"/", (b"content-length", b"5"), method=POST), b"hello")
        sent = self.origin().take()
        self.assertEqual(dict(fields_of(sent))[b"content-length"], b"5")
        self.assertTrue(sent.endswith(b"\r\n\r\nhello"))

    def test_content_of_unknown_length(self) -> None:
        self.client.ask(request(method=POST), b"hello")
        sent = self.origin().take()
        self.assertEqual(dict(fields_of(sent))[b"transfer-encoding"], b"chunked")
        self.assertTrue(sent.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))

    def test_trailers(self) -> None:
        h2 = self.client.h2
        h2.send_headers(1, request(method=POST))
        h2.send_data(1, b"hello")
        h2.send_headers(1, [(b"x-sum", b"1"), (b"x-forwarded-for", b"192.0.2.66")], end_stream=True)
        self.client.talk()
        self.assertTrue(self.origin().take().endswith(b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"))

    def test_length_of_nothing_on_an_open_stream(self) -> None:
        h2 = self.client.h2
        h2.send_headers(1, request(b"/", (b"content-length", b"0"), method=POST))
        self.client.talk()
        h2.end_stream(1)
        self.client.talk()
        self.assertEqual(self.origin().take().count(b"POST"), 1)
        self.answer(OK)
        self.assertEqual(self.client.status(1), 200)
        self.assert_pooled(1)

    def test_expect(self) -> None:
        """Upstream's own 100, then the content."""
        h2 = self.client.h2
        h2.send_headers(1, request(b"/", (b"expect", b"100-continue"), (b"content-length", b"2"),
                                   method=POST))  # fmt: skip
        self.client.talk()
        self.answer(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertIsInstance(self.client.events[-1], InformationalResponseReceived)
        h2.send_data(1, b"ab", end_stream=True)
        self.client.talk()
        self.assertTrue(self.origin().take().endswith(b"ab"))

    def test_refused_here(self) -> None:
        for fields, status in (
            (request(b"/", method=b"TRACE"), 405),
            ([(b":method", b"CONNECT"), (b":authority", b"sso.example.com:443")], 405),
            (request(b"/" + b"a" * 33000), 414),
            (request(b"/", (b"expect", b"tea")), 417),
            (request(b"/", (b"x", b"a" * 33000)), 431),
        ):
            number = self.client.ask(fields)
            self.assertEqual(self.client.status(number), status)
            self.assertTrue(self.client.ended(number))
        self.assertEqual(self.world.origins, [])
        self.assertEqual(self.client.transport.ended, "")


class ResponseTests(_Tests):
    def test_forms(self) -> None:
        """However upstream frames it, and where there is none."""
        for data, method, content in (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"GET", b"hello"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
             b"GET", b"hello"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"GET", b""),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"HEAD", b""),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HEAD", b""),
            (b"HTTP/1.1 204 No Content\r\n\r\n", b"GET", b""),
            (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"GET", b""),
        ):  # fmt: skip
            number = self.client.ask(request(method=method))
            self.answer(data)
            self.assertEqual(self.client.status(number), int(data[9:12]))
            self.assertEqual((self.client.content(number), self.client.ended(number)),
                             (content, True))  # fmt: skip
            names = [name for name, _ in self.client.fields(number)]
            self.assertNotIn(b"transfer-encoding", names)
            self.assertEqual(b"content-length" in names, b"Content-Length" in data)

    def test_until_close(self) -> None:
        number = self.client.ask()
        self.answer(b"HTTP/1.1 200 OK\r\n\r\nhel")
        self.answer(b"lo")
        self.assertEqual((self.client.content(number), self.client.ended(number)),
                         (b"hello", False))  # fmt: skip
        self.origin().protocol.connectionLost(Failure(ConnectionDone()))
        self.client.talk()
        self.assertTrue(self.client.ended(number))

    def test_trailers(self) -> None:
        number = self.client.ask()
        self.answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n"
        )
        [trailers] = [e for e in self.client.events if isinstance(e, TrailersReceived)]
        self.assertEqual(trailers.headers, [(b"x-sum", b"1")])
        self.assertTrue(self.client.ended(number))

    def test_early_hints(self) -> None:
        number = self.client.ask()
        self.answer(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        [hints] = [e for e in self.client.events if isinstance(e, InformationalResponseReceived)]
        self.assertEqual(hints.headers, [(b":status", b"103"), (b"link", b"</a>")])
        self.answer(OK)
        self.assertEqual(self.client.status(number), 200)

    def test_cut(self) -> None:
        """It never looks like an end."""
        number = self.client.ask()
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
        self.origin().protocol.connectionLost(Failure(ConnectionDone()))
        self.client.talk()
        self.assertEqual(self.client.reset(number), ErrorCodes.INTERNAL_ERROR)
        self.assertFalse(self.client.ended(number))
        self.assertEqual(self.client.status(self.client.ask()), 0)  # others may go on

    def test_before_the_request_is_complete(self) -> None:
        """RFC 9113 8.1: the answer, whole, then a reset that says that nothing is wrong."""
        h2 = self.client.h2
        h2.send_headers(1, request(b"/", (b"content-length", b"500000"), method=POST))
        for _ in range(3):
            h2.send_data(1, b"x" * 16384)
            self.client.talk()
        for _ in range(6):
            h2.send_data(1, b"x" * 16384)
            self.client.talk()
        say(self.origin(), b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        self.client.talk()
        self.assertEqual((self.client.status(1), self.client.content(1)), (413, b"no"))
        self.assertTrue(self.client.ended(1))
        self.assertEqual(self.client.reset(1), ErrorCodes.NO_ERROR)
        self.assert_pooled(0)

    def test_one_frame_of_each_in_turn(self) -> None:
        numbers = [self.client.ask(request(b"/%d" % n)) for n in range(3)]
        turns = self.client.server.turns
        turns.held = True  # as within one batch of events
        for origin in self.world.origins:
            say(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20000)
        turns.held = False
        turns.flush()
        order = [f.stream_id for f in frames_of(self.client.transport.take()) if f.type == 0]
        self.assertEqual(order, [*numbers, *numbers])


class CancelTests(_Tests):
    def test_before_the_answer(self) -> None:
        number, other = self.client.ask(), self.client.ask()
        self.client.h2.reset_stream(number, ErrorCodes.CANCEL)
        self.client.talk()
        self.assertEqual([origin.ended for origin in self.world.origins], ["abort", ""])
        self.assertEqual(self.world.access.statuses, [499])
        self.answer(OK)
        self.assertEqual(self.client.status(other), 200)
        self.assert_pooled(1)

    def test_amid_it(self) -> None:
        number = self.client.ask()
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
        self.client.h2.reset_stream(number, ErrorCodes.CANCEL)
        self.client.talk()
        self.assertEqual(self.origin().ended, "abort")
        self.assertEqual(self.world.access.statuses, [200])
        self.assert_pooled(0)

    def test_connection_lost(self) -> None:
        self.client.ask()
        self.client.ask(request(method=POST), b"hello")
        self.client.transport.finish()
        self.assertEqual([origin.ended for origin in self.world.origins], ["abort", "abort"])
        gateway = self.world.gateway
        self.assertEqual((gateway.exchanges, gateway.connections), (0, set()))

    def test_window_of_the_connection_stays_whole(self) -> None:
        """What came for streams that were cancelled is given back."""
        h2 = self.client.h2
        for number in range(1, 201, 2):
            h2.send_headers(number, request(method=POST))
            h2.send_data(number, b"x" * 16000, pad_length=200)
            self.client.talk()
            self.client.h2.reset_stream(number)
            self.client.talk()
        self.assertGreater(h2.outbound_flow_control_window, 500_000)


class UploadTests(_Tests):
    def send(self, octets: int) -> None:
        """So much content on stream 1, as far as the windows let it."""
        h2 = self.client.h2
        while octets > 0 and (window := h2.local_flow_control_window(1)):
            size = min(octets, window, 16384)
            h2.send_data(1, b"x" * size)
            octets -= size
            self.client.talk()

    def test_nothing_is_acknowledged_that_upstream_does_not_take(self) -> None:
        client = self.client
        client.h2.send_headers(1, request(method=POST))
        self.send(140_000)  # collected, then streamed
        connection = self.origin().protocol
        connection.pauseProducing()
        client.events.clear()
        self.send(1_000_000)
        self.assertEqual(client.h2.local_flow_control_window(1), 0)
        self.assertEqual([e for e in client.events if isinstance(e, WindowUpdated)], [])
        self.assertLess(len(self.origin().take()), 300_000)
        self.world.advance(29)  # it is not the client who is slow
        connection.resumeProducing()
        client.talk()
        self.assertGreater(client.h2.local_flow_control_window(1), 60_000)

    def test_content_that_stops(self) -> None:
        self.client.h2.send_headers(1, request(method=POST))
        self.send(10)
        self.world.advance(31)
        self.client.talk()
        self.assertEqual(self.client.status(1), 408)
        self.assertEqual(self.client.reset(1), ErrorCodes.NO_ERROR)

    def test_content_that_drips(self) -> None:
        self.client.h2.send_headers(1, request(method=POST))
        for _ in range(5):
            self.send(10)
            self.world.advance(5)
        self.send(10)
        self.assertEqual(self.client.status(1), 408)


class LeavingTests(_Tests):
    def settings(self) -> Settings:
        limits = evolve(Limits(), requests_per_connection=2)
        return evolve(Settings(), limits=limits, timeouts=evolve(Timeouts(), connection_age=100))

    def goaways(self) -> list[int]:
        """The last streams of the GOAWAYs that were sent; the client has not heard them."""
        return [f.last_stream_id for f in frames_of(self.client.transport.take()) if is_goaway(f)]

    def begin(self, number: int) -> None:
        """A request of which the client's library need not know."""
        frame = HeadersFrame(number, self.client.block(request()))
        frame.flags |= {"END_HEADERS", "END_STREAM"}
        self.client.raw(frame)

    def leave(self) -> None:
        """Two requests: the connection may have no more, once both are answered."""
        self.client.ask()
        self.begin(3)
        for origin in self.world.origins:
            self.assertEqual(self.goaways(), [])
            say(origin, OK)

    def test_after_the_last_request(self) -> None:
        self.leave()
        sent = frames_of(self.client.transport.take())
        self.assertEqual(sent[-1].last_stream_id, (1 << 31) - 1)
        self.assertEqual([frame.stream_id for frame in sent], [3, 3, 0, 0])  # behind the answer
        # One more was on its way: it is served.
        self.begin(5)
        pong = PingFrame(0, b"GOAWAY??")
        pong.flags.add("ACK")
        self.client.raw(pong)
        self.assertEqual(self.goaways(), [5])
        self.begin(7)
        [refused] = frames_of(self.client.transport.take())
        self.assertIsInstance(refused, RstStreamFrame)
        self.assertEqual((refused.stream_id, refused.error_code), (7, ErrorCodes.REFUSED_STREAM))
        self.assertEqual(self.client.transport.ended, "")
        say(self.origin(0), OK)
        say(self.origin(), OK)
        self.assertEqual(self.client.transport.ended, "half")

    def test_never_without_a_request(self) -> None:
        for number in range(1, 205, 2):
            self.begin(number)
            if number > 1:
                for origin in [o for o in self.world.origins if b"GET" in o.take()][:-1]:
                    say(origin, OK)
            if self.client.server._going:
                break
        self.assertEqual(number, 203)

    def test_a_client_that_does_not_answer_the_ping(self) -> None:
        self.leave()
        self.goaways()
        self.world.advance(3)
        self.assertEqual(self.goaways(), [3])
        self.assertEqual(self.client.transport.ended, "half")

    def test_age(self) -> None:
        self.world.advance(10)
        self.client.ask()
        self.world.advance(55)  # more would be upstream's timeout
        self.answer(OK)
        self.world.advance(40)
        self.begin(3)
        self.assertEqual(self.goaways(), [])
        say(self.origin(), OK)
        self.assertEqual(self.goaways(), [(1 << 31) - 1])

    def test_drain(self) -> None:
        self.client.ask()
        self.world.gateway.draining = True
        self.client.server.drain()
        self.assertEqual(self.goaways(), [(1 << 31) - 1])
        self.world.advance(3)
        self.assertEqual(self.goaways(), [1])
        say(self.origin(), OK)
        self.assertIn(b"hello", self.client.transport.take())
        self.assertEqual(self.client.transport.ended, "half")

    def test_goaway_of_the_client(self) -> None:
        """It begins no more; what runs is answered."""
        number = self.client.ask()
        self.client.raw(GoAwayFrame(0, last_stream_id=0, error_code=0))
        self.assertEqual(self.client.transport.ended, "")
        self.client.raw(WindowUpdateFrame(0, 1000))
        self.answer(OK)
        self.assertEqual(self.client.status(number), 200)
        self.assertEqual(self.client.transport.ended, "half")


class WebSocketTests(_Tests):
    HANDSHAKE = (b"sec-websocket-version", b"13")

    def handshake(self, *fields: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """RFC 8441 5.1."""
        return [(b":method", b"CONNECT"), (b":protocol", b"websocket"),
                *request(b"/ws/client/")[1:], self.HANDSHAKE, *fields]  # fmt: skip

    def connect(self) -> int:
        """A handshake that is on its way upstream. Returns the stream."""
        self.client.h2.send_headers(1, self.handshake((b"sec-websocket-protocol", b"guacamole")))
        self.client.talk()
        return 1

    def agree(self) -> None:
        """Upstream agrees."""
        key = dict(fields_of(self.origin().take()))[b"sec-websocket-key"]
        self.answer(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: guacamole\r\nSec-WebSocket-Accept: "
            + accept_value(key)
            + b"\r\n\r\nearly"
        )

    def test_upstream_sees_the_usual_handshake(self) -> None:
        self.connect()
        sent = self.origin().take()
        self.assertTrue(sent.startswith(b"GET /ws/client/ HTTP/1.1\r\n"))
        fields = dict(fields_of(sent))
        self.assertEqual(fields[b"upgrade"], b"websocket")
        self.assertEqual(fields[b"connection"], b"upgrade")
        self.assertEqual(len(fields[b"sec-websocket-key"]), 24)
        self.assertEqual(fields[b"sec-websocket-protocol"], b"guacamole")

    def test_both_ways(self) -> None:
        number = self.connect()
        self.client.h2.send_data(number, b"too early")
        self.client.talk()
        self.agree()
        self.assertEqual(
            self.client.fields(number),
            [(b":status", b"200"), (b"sec-websocket-protocol", b"guacamole")],
        )
        self.assertEqual(self.origin().take(), b"too early")
        self.client.h2.send_data(number, b"ping")
        self.client.talk()
        self.assertEqual(self.origin().take(), b"ping")
        self.answer(b"pong")
        self.assertEqual(self.client.content(number), b"earlypong")
        self.assertTrue(self.client.opening.is_proven)

    def test_a_2xx_that_is_no_101(self) -> None:
        """Here it would say that the WebSocket is open (RFC 8441 5), and a page be its octets."""
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        for answer in (whole, whole[:-1], b"HTTP/1.1 204 No Content\r\n\r\n"):
            self.setUp()
            number = self.connect()
            self.answer(answer)
            self.assertEqual(self.client.fields(number)[0], (b":status", b"502"), answer)
            self.assertEqual(self.world.access.statuses, [502])
            self.assertEqual(self.client.server.streams, {})
            self.assertEqual([server.leased for server in self.world.pool.servers], [0])

    def test_the_client_ends(self) -> None:
        number = self.connect()
        self.agree()
        self.client.h2.end_stream(number)
        self.client.talk()
        self.assertEqual(self.origin().ended, "")
        say(self.origin(), b"bye")  # Chromium sends END_STREAM with its Close frame
        self.origin().finish()
        self.client.talk()
        self.assertEqual(self.client.content(number), b"earlybye")
        self.assertTrue(self.client.ended(number))
        self.assertEqual(self.world.gateway.relays, set())
        self.assertEqual(self.world.access.statuses, [101])
        self.assertEqual(self.client.server.streams, {})

    def test_the_client_ends_and_upstream_does_not(self) -> None:
        number = self.connect()
        self.agree()
        self.client.h2.end_stream(number)
        self.client.talk()
        self.world.advance(9)
        self.assertEqual(self.origin().ended, "")
        self.world.advance(2)
        self.client.talk()
        self.assertEqual(self.origin().ended, "half")
        self.assertTrue(self.client.ended(number))
        self.origin().finish()
        self.assertEqual((self.world.gateway.relays, self.client.server.streams), (set(), {}))

    def test_upstream_ends(self) -> None:
        number = self.connect()
        self.agree()
        say(self.origin(), b"bye")
        self.origin().finish()
        self.client.talk()
        self.assertEqual(self.client.content(number), b"earlybye")
        self.assertTrue(self.client.ended(number))
        self.assertIsNone(self.client.reset(number))
        self.client.h2.end_stream(number)
        self.client.talk()
        self.assertEqual((self.world.gateway.relays, self.client.server.streams), (set(), {}))

    def test_upstream_ends_and_the_client_does_not(self) -> None:
        number = self.connect()
        self.agree()
        self.origin().finish()
        self.world.advance(3)
        self.client.talk()
        self.assertEqual(self.client.reset(number), ErrorCodes.NO_ERROR)
        self.assertEqual((self.world.gateway.relays, self.client.server.streams), (set(), {}))

    def test_reset(self) -> None:
        number = self.connect()
        self.agree()
        self.client.h2.reset_stream(number, ErrorCodes.CANCEL)
        self.client.talk()
        self.origin().finish()
        self.assertEqual(self.world.gateway.relays, set())
        self.assertEqual(self.world.gateway.exchanges, 0)

    def test_connection_lost(self) -> None:
        self.connect()
        self.agree()
        self.client.transport.finish()
        self.origin().finish()
        self.assertEqual(self.world.gateway.relays, set())
        self.assertEqual(self.world.gateway.exchanges, 0)

    def test_a_client_that_does_not_read(self) -> None:
        number = self.connect()
        self.agree()
        self.answer(b"x" * 200_000)
        self.assertTrue(self.origin().paused)
        self.client.h2.increment_flow_control_window(200_000)
        self.client.h2.increment_flow_control_window(200_000, number)
        self.client.talk()
        self.assertFalse(self.origin().paused)
        self.assertEqual(len(self.client.content(number)), 200_005)

    def test_an_upstream_that_does_not_read(self) -> None:
        number = self.connect()
        self.agree()
        self.origin().producer.pauseProducing()
        h2 = self.client.h2
        while window := h2.local_flow_control_window(number):
            h2.send_data(number, b"x" * min(window, 16384))
            self.client.talk()
        self.assertEqual(self.origin().take(), b"")
        self.origin().producer.resumeProducing()
        self.client.talk()
        self.assertEqual(len(self.origin().take()), 65536)
        self.assertGreater(h2.local_flow_control_window(number), 60_000)

    def test_refused_by_upstream(self) -> None:
        number = self.connect()
        self.answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual((self.client.status(number), self.client.ended(number)), (403, True))
        self.assert_pooled(1)

    def test_each_is_counted(self) -> None:
        """It has a descriptor of its own, and one connection may have many."""
        opening, h2 = self.client.opening, self.client.h2
        opening.most_tunnels = 1
        self.connect()
        h2.send_headers(3, self.handshake())
        self.client.talk()
        self.assertEqual((self.client.status(3), opening.tunnels), (503, 1))
        self.origin().take()
        self.answer(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual((self.client.status(1), opening.tunnels), (403, 0))
        for number in (5, 7):
            h2.send_headers(number, self.handshake())
            self.client.talk()
            self.assertEqual(opening.tunnels, 1)
            self.agree()
            self.assertEqual((self.client.status(number), opening.tunnels), (200, 1))
            h2.reset_stream(number)
            self.client.talk()
            self.assertEqual(opening.tunnels, 0)
        h2.send_headers(9, self.handshake())
        self.client.talk()
        self.client.transport.finish()
        self.assertEqual(opening.tunnels, 0)

    def test_its_head_is_not_kept(self) -> None:
        """Nor does it count with what waits: with 16 kB of cookies 8,000 WebSockets had all."""
        self.client.h2.send_headers(1, self.handshake((b"cookie", b"x" * 16_000)))
        self.client.talk()
        self.assertEqual(self.world.gateway.waiting.octets // 1000, 16)
        self.agree()
        self.assertEqual(self.client.status(1), 200)
        self.assertEqual(self.world.gateway.waiting.octets, 0)
        self.client.transport.finish()
        self.assertEqual(self.world.gateway.waiting.octets, 0)

    def test_malformed(self) -> None:
        for fields, status in (
            ([f if f[0] != b":protocol" else (f[0], b"tcp") for f in self.handshake()], 501),
            (self.handshake((b"sec-websocket-key", b"x")), 400),
            (self.handshake()[:-1], 501),
            ([*request()[:1], (b":protocol", b"websocket"), *request()[1:]], 400),
        ):
            number = self.client.h2.get_next_available_stream_id()
            self.client.h2.send_headers(number, fields)
            self.client.talk()
            self.assertEqual(self.client.status(number), status)
        self.assertEqual(self.world.origins, [])
        self.assertEqual(self.client.opening.tunnels, 0)


class WebSocketsOffTests(_Tests):
    def settings(self) -> Settings:
        return evolve(Settings(), listen=evolve(Listen(), http2_websockets=False))

    def test_refused(self) -> None:
        fields = WebSocketTests.handshake(WebSocketTests())
        self.client.h2.send_headers(1, fields)
        self.client.talk()
        self.assertEqual(self.client.status(1), 405)
        self.assertEqual(self.client.h2.remote_settings.enable_connect_protocol, 0)
