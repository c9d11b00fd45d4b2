"""How responses are read from upstream: what the lessee hears, whatever the segments are."""

from __future__ import annotations

from typing import Any

from authproxy.upstream import responses
from authproxy.upstream.responses import MOST_INFORMATIONAL
from authproxy.wire.errors import ProtocolError
from authproxy.wire.heads import Fields
from authproxy.wire.responses import parse_response

from .connections import ConnectionTests, head

SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


class ResponseTests(ConnectionTests):
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

        self.patch(responses, "parse_response", parse)
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


class SwitchingTests(ConnectionTests):
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
