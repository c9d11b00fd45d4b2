"""What the fields say about the message: tables."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy.wire import framing
from authproxy.wire.errors import ProtocolError
from authproxy.wire.heads import CHUNKED
from tests.wire.feeding import refusal

CL = b"content-length"
TE = b"transfer-encoding"


class ByNameTests(SynchronousTestCase):
    def test_single_fields(self) -> None:
        fields = [(b"host", b"a"), (b"connection", b"close"), (b"x", b"y")]
        self.assertEqual(framing.by_name(fields, 400), dict(fields))

    def test_a_second_one_is_refused(self) -> None:
        for name, word in [
            (b"host", "Host"),
            (CL, "Content-Length"),
            (TE, "Transfer-Encoding"),
        ]:
            for status in (400, 502):
                fields = [(name, b"1"), (b"x", b"y"), (name, b"1")]
                error = refusal(framing.by_name, fields, status)
                assert error is not None
                self.assertEqual(error.status, status)
                self.assertIn(word, error.reason)

    def test_lists_are_joined_in_order(self) -> None:
        for name in (b"connection", b"expect", b"upgrade", b"sec-websocket-key"):
            fields = [(name, b"a"), (b"x", b"y"), (name, b"b, c")]
            self.assertEqual(framing.by_name(fields, 400)[name], b"a, b, c")

    def test_other_names_may_repeat(self) -> None:
        fields = [(b"cookie", b"a"), (b"cookie", b"b")]
        self.assertIn(framing.by_name(fields, 400)[b"cookie"], (b"a", b"b"))


class ContentLengthTests(SynchronousTestCase):
    def test_lengths(self) -> None:
        for named, length in [
            ({}, None),
            ({CL: b"0"}, 0),
            ({CL: b"5"}, 5),
            ({CL: b"0000000000000000005"}, 5),
            ({CL: b"9" * 19}, 10**19 - 1),
            ({TE: b"chunked"}, CHUNKED),
            ({TE: b"CHUNKED"}, CHUNKED),
        ]:
            self.assertEqual(framing.content_length(named, 11, 400), length, named)
        self.assertEqual(framing.content_length({CL: b"5"}, 10, 400), 5)

    def test_refused_by_client_and_by_upstream(self) -> None:
        for named, version, status in [
            ({CL: b"5", TE: b"chunked"}, 11, 400),
            ({TE: b"chunked"}, 10, 400),
            ({TE: b"gzip"}, 10, 400),
            ({TE: b""}, 11, 400),
            ({TE: b"chunked,"}, 11, 400),
            ({TE: b"chunked;q=1"}, 11, 400),
            ({TE: b"chunked, gzip"}, 11, 400),
            ({TE: b"chunked, chunked"}, 11, 400),
            ({TE: b"gzip"}, 11, 501),
            ({TE: b"xchunked"}, 11, 501),
            ({TE: b"gzip,\tchunked"}, 11, 501),
            ({CL: b""}, 11, 400),
            ({CL: b"0" * 20}, 11, 400),
            ({CL: b"1,1"}, 11, 400),
            ({CL: "\u0665".encode()}, 11, 400),
            ({CL: b"\xb2"}, 11, 400),
        ]:
            for side, expected in ((400, status), (502, 502)):
                error = refusal(framing.content_length, named, version, side)
                if error is None:
                    self.fail(f"not refused: {named}")
                self.assertEqual(error.status, expected, named)

    @given(
        st.dictionaries(st.sampled_from([CL, TE]), st.binary(max_size=25)),
        st.sampled_from([10, 11]),
    )
    def test_only_protocol_errors(self, named: dict[bytes, bytes], version: int) -> None:
        try:
            length = framing.content_length(named, version, 400)
        except ProtocolError:
            return
        self.assertTrue(length is None or length == CHUNKED or 0 <= length < 10**19)


class KeepsAliveTests(SynchronousTestCase):
    def test_table(self) -> None:
        # Connection, with HTTP/1.1, with HTTP/1.0 (RFC 9112 9.3)
        for connection, eleven, ten in [
            (None, True, False),
            (b"", True, False),
            (b"keep-alive", True, True),
            (b"Keep-Alive", True, True),
            (b"close", False, False),
            (b"CLOSE", False, False),
            (b"keep-alive, close", False, False),
            (b"close,keep-alive", False, False),
            (b"upgrade, keep-alive", True, True),
            (b"te ,\tclose", False, False),
            (b"closed", True, False),
            (b"not-close", True, False),
        ]:
            self.assertEqual(framing.keeps_alive(connection, 11), eleven, connection)
            self.assertEqual(framing.keeps_alive(connection, 10), ten, connection)

    def test_options(self) -> None:
        self.assertEqual(framing.options(b"TE , \tclose,X"), {b"te", b"close", b"x"})
