"""What goes onto the wire, to the octet. Round trips are in the tests of the parsers."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from authproxy.wire import serialise
from authproxy.wire.heads import ResponseHead


class SerialiseTests(SynchronousTestCase):
    def test_request_head(self) -> None:
        fields = [(b"host", b"a"), (b"x", b""), (b"x", b"y")]
        self.assertEqual(
            serialise.request_head(b"GET", b"/a?b", serialise.section(fields)),
            b"GET /a?b HTTP/1.1\r\nhost: a\r\nx: \r\nx: y\r\n\r\n",
        )

    def test_request_head_without_fields(self) -> None:
        octets = serialise.request_head(b"OPTIONS", b"*", serialise.section([]))
        self.assertEqual(octets, b"OPTIONS * HTTP/1.1\r\n\r\n")

    def test_it_is_always_http11(self) -> None:
        for version in (10, 20):
            response = serialise.response_head(ResponseHead(200, b"OK", version, []))
            self.assertEqual(response, b"HTTP/1.1 200 OK\r\n\r\n")

    def test_response_head(self) -> None:
        fields = [(b"set-cookie", b"a"), (b"set-cookie", b"b")]
        self.assertEqual(
            serialise.response_head(ResponseHead(404, b"Not Found", 11, fields)),
            b"HTTP/1.1 404 Not Found\r\nset-cookie: a\r\nset-cookie: b\r\n\r\n",
        )

    def test_the_space_of_an_empty_reason_stays(self) -> None:
        head = ResponseHead(200, b"", 11, [])
        self.assertEqual(serialise.response_head(head), b"HTTP/1.1 200 \r\n\r\n")

    def test_more_fields(self) -> None:
        """Those of the connection; the head, which may be sent again, does not keep them."""
        head = ResponseHead(200, b"OK", 11, [(b"a", b"b")])
        self.assertEqual(
            serialise.response_head(head, b"connection: close\r\n"),
            b"HTTP/1.1 200 OK\r\na: b\r\nconnection: close\r\n\r\n",
        )
        self.assertEqual(serialise.response_head(head), b"HTTP/1.1 200 OK\r\na: b\r\n\r\n")

    def test_chunks(self) -> None:
        self.assertEqual(serialise.chunk(b"hello"), b"5\r\nhello\r\n")
        self.assertEqual(serialise.chunk(b"x" * 255), b"ff\r\n" + b"x" * 255 + b"\r\n")

    def test_no_data_is_not_the_last_chunk(self) -> None:
        self.assertEqual(serialise.chunk(b""), b"")

    def test_last_chunk(self) -> None:
        self.assertEqual(serialise.last_chunk(), b"0\r\n\r\n")
        self.assertEqual(
            serialise.last_chunk([(b"a", b"b"), (b"c", b"")]), b"0\r\na: b\r\nc: \r\n\r\n"
        )
