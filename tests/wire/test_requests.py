"""Heads of requests: what the corpus cannot say, and generated heads beside h11."""

from __future__ import annotations

import h11
from hypothesis import assume, example, given
from twisted.trial.unittest import SynchronousTestCase

from authproxy.wire import serialise
from authproxy.wire.errors import ProtocolError
from authproxy.wire.heads import HeadLimits, RequestHead
from authproxy.wire.requests import parse_request
from tests.wire import generated
from tests.wire.feeding import (
    COMPLETIONS,
    LIMITS,
    NEXT_REQUEST,
    feed,
    octet_by_octet,
    refusal,
    segmentations,
)

REQUEST = b"GET /a?b HTTP/1.1\r\nHost: example.org\r\nA: b\r\na:  c \r\n\r\n"


def parse(data: bytes) -> tuple[RequestHead, int] | None:
    return parse_request(data, LIMITS)


def attributes(head: RequestHead) -> dict[str, object]:
    return {name: getattr(head, name) for name in RequestHead.__slots__}


def outcome(segments: list[bytes], limits: HeadLimits = LIMITS) -> object:
    """What comes of it: attributes and octets, None, or the refusal; the same if it is the same."""
    try:
        result = feed(lambda data: parse_request(data, limits), segments)
    except ProtocolError:
        return "refused"
    return result and (attributes(result[0]), result[1])


class RequestHeadTests(SynchronousTestCase):
    def test_attributes(self) -> None:
        parsed = parse(REQUEST)
        assert parsed is not None
        expected = RequestHead(
            b"GET",
            b"/a?b",
            11,
            [(b"host", b"example.org"), (b"a", b"b"), (b"a", b"c")],
            host=b"example.org",
            section=b"\r\nHost: example.org\r\nA: b\r\na:  c ",
        )
        self.assertEqual(attributes(parsed[0]), attributes(expected))
        self.assertEqual(parsed[1], len(REQUEST))
        self.assertEqual(parsed[0].get(b"a"), b"b")
        self.assertIsNone(parsed[0].get(b"c"))

    def test_same_in_every_segmentation_and_with_another_behind(self) -> None:
        expected = outcome([REQUEST])
        for segments in segmentations(REQUEST):
            self.assertEqual(outcome(segments), expected)
        for segments in segmentations(REQUEST + NEXT_REQUEST):
            self.assertEqual(outcome(segments), expected)

    def test_wants_more_until_the_last_octet(self) -> None:
        for cut in range(len(REQUEST)):
            self.assertIsNone(parse(REQUEST[:cut]))

    def test_skipped_empty_line_is_counted(self) -> None:
        for segments in segmentations(b"\r\n" + REQUEST):
            parsed = feed(parse, segments)
            assert parsed is not None
            self.assertEqual(parsed[1], len(REQUEST) + 2)

    def test_refused_before_the_head_is_complete(self) -> None:
        for beginning, status in [
            (b"\x16", 400),
            (b"\n", 400),
            (b"\r\nGET\t", 400),
            (b"GET\r", 400),
            (b"GET /\r\n", 400),
            (b"GET / HTTP/2.0\r\n", 505),
            (b"A" * 33, 501),
            (b"GET / HTTP/1.1\r\nA: b\n", 400),
            (b"GET / HTTP/1.1\r\nA: \0", 400),
            (b"GET / HTTP/1.1\r\nA: b\rc", 400),
            (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101, 431),
            (b"GET / HTTP/1.1\r\nA: " + b"b" * 32768, 431),
            (b"GET / HTTP/1.1\r\n" + (b"A: " + b"b" * 1000 + b"\r\n") * 66, 431),
            (b"GET /" + b"a" * 32768, 414),
        ]:
            error = refusal(parse, beginning)
            if error is None:
                self.fail(f"not refused: {beginning[:40]!r}")
            self.assertEqual(error.status, status, beginning[:40])

    def test_errors_do_not_repeat_the_input(self) -> None:
        for secret in (b"GET /secret#x", b"secret\x01 /", b"GET / HTTP/secret"):
            error = refusal(parse, secret + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            assert error is not None
            self.assertNotIn("secret", str(error) + repr(error))

    def test_repr_has_no_query_and_no_values(self) -> None:
        parsed = parse(b"GET /path?code=1 HTTP/1.1\r\nHost: a\r\nCookie: b=2\r\n\r\n")
        assert parsed is not None
        self.assertNotIn("code", repr(parsed[0]))
        self.assertNotIn("b=2", repr(parsed[0]))
        self.assertIn("GET /path 11 host=a 2 fields length=0 keep_alive", repr(parsed[0]))


class LimitTests(SynchronousTestCase):
    """Each limit to the octet, in small: one fits, one more does not."""

    def check(self, limits: HeadLimits, fits: bytes, over: bytes, status: int, name: str) -> None:
        for segments in segmentations(fits):
            self.assertNotIn(outcome(segments, limits), (None, "refused"))
        for segments in segmentations(over):
            error = refusal(feed, lambda data: parse_request(data, limits), segments)
            assert error is not None
            self.assertEqual((error.status, error.limit), (status, name))
            self.assertIn(name, str(error))

    def test_head(self) -> None:
        fits = b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n"
        over = b"GET / HTTP/1.1\r\nHost: a\r\nA: bb\r\n\r\n"
        self.check(HeadLimits(head_bytes=len(fits)), fits, over, 431, "limits.head_bytes")

    def test_empty_line_first_is_not_counted(self) -> None:
        fits = b"\r\nGET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n"
        over = b"\r\nGET / HTTP/1.1\r\nHost: a\r\nA: bb\r\n\r\n"
        self.check(HeadLimits(head_bytes=len(fits) - 2), fits, over, 431, "limits.head_bytes")

    def test_request_line(self) -> None:
        fits = b"GET /234567 HTTP/1.1\r\nHost: a\r\n\r\n"
        over = b"GET /2345678 HTTP/1.1\r\nHost: a\r\n\r\n"
        self.check(HeadLimits(line_bytes=20), fits, over, 414, "limits.line_bytes")

    def test_unusual_request_line(self) -> None:
        fits = b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"
        over = b"GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n"
        self.check(HeadLimits(line_bytes=22), fits, over, 414, "limits.line_bytes")

    def test_field_line(self) -> None:
        fits = b"GET / HTTP/1.1\r\nHost: a\r\nA: 45678901234567890\r\n\r\n"
        over = b"GET / HTTP/1.1\r\nHost: a\r\nA: 456789012345678901\r\n\r\n"
        self.check(HeadLimits(line_bytes=20), fits, over, 431, "limits.line_bytes")

    def test_fields(self) -> None:
        fits = b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n"
        over = b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nA: b\r\n\r\n"
        self.check(HeadLimits(fields=2), fits, over, 431, "limits.fields")


def read_by_h11(data: bytes) -> h11.Request:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    event = connection.next_event()
    assert isinstance(event, h11.Request), event
    return event


def normal(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """h11 gives Transfer-Encoding in lower case."""
    return [(n, v.lower() if n == b"transfer-encoding" else v) for n, v in fields]


class GeneratedTests(SynchronousTestCase):
    @given(generated.REQUEST_OCTETS)
    @example(b"\r")
    @example(b"\r\n\r\n\r\n")
    @example(b"GET / HTTP/1.1\r\n\r")
    @example(b"GET / HTTP/1.1\r\n" + b"a" * 31 + b"\r\n")
    def test_only_protocol_errors_and_split_invariance(self, data: bytes) -> None:
        for limits in (LIMITS, HeadLimits(head_bytes=80, line_bytes=30, fields=3)):
            whole = outcome([data], limits)
            split = outcome(octet_by_octet(data), limits)
            if whole is None and split == "refused":
                # A line over the limit shows itself while it drips in. Arrived at once, before the
                # head is complete, it is found later: no such head is ever accepted.
                for end in COMPLETIONS:
                    self.assertIn(outcome([data + end], limits), (None, "refused"), data)
            else:
                self.assertEqual(whole, split, (data, limits))

    @given(generated.REQUESTS)
    def test_what_is_accepted_h11_reads_alike(self, data: bytes) -> None:
        """All of it, but for the known differences, which are stricter or without a consequence.

        - an empty line before the request line: h11 refuses it, RFC 9112 2.2 asks to skip it;
        - absolute-form: h11 leaves the target as it is, this package reduces it;
        - h11 lower-cases the value of Transfer-Encoding.
        """
        try:
            parsed = parse(data)
        except ProtocolError:
            assume(False)
        assert parsed is not None
        head, consumed = parsed
        self.assertEqual(consumed, len(data))
        event = read_by_h11(data.removeprefix(b"\r\n"))
        self.assertEqual(event.method, head.method)
        self.assertEqual(event.http_version, b"1.1" if head.version == 11 else b"1.0")
        if event.target[:1] in b"/*":
            self.assertEqual(event.target, head.target)
        else:
            self.assertTrue(event.target.lower().startswith((b"http://", b"https://")))
            self.assertTrue(head.target == b"*" or event.target.endswith(head.target.lstrip(b"/")))
        self.assertEqual(normal(list(event.headers)), normal(head.fields))

    @given(generated.GOOD_REQUESTS)
    def test_round_trip(self, head: RequestHead) -> None:
        octets = written(head)
        parsed = parse(octets)
        assert parsed is not None
        self.assertEqual(parsed[1], len(octets))
        again = parsed[0]
        for name in ("method", "target", "version", "fields", "host"):
            self.assertEqual(getattr(again, name), getattr(head, name), name)
        self.assertEqual(written(again), octets)


def written(head: RequestHead) -> bytes:
    return serialise.request_head(head.method, head.target, serialise.section(head.fields))
