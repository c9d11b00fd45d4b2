"""Heads and trailers in pieces: every octet is looked at once, and refused as early as ever."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from authproxy.wire.bodies import ChunkedReader
from authproxy.wire.errors import ProtocolError
from authproxy.wire.heads import HeadLimits
from authproxy.wire.incomplete import Incomplete
from authproxy.wire.requests import parse_request
from authproxy.wire.requests import refuse_early as refuse_request
from authproxy.wire.responses import parse_response
from authproxy.wire.responses import refuse_early as refuse_response

from . import corpus
from .feeding import octet_by_octet, segmentations
from .test_requests import attributes

Parse = Callable[[bytes, HeadLimits], Any]
LIMITS = HeadLimits()
SMALL = HeadLimits(head_bytes=120, line_bytes=40, fields=3)
parse_get = partial(parse_response, method=b"GET")
# Of the limits, to the octet, and of what may stand at the seam of two pieces.
BEGINNINGS = (
    b"\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 81 + b"\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 14 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 4,
    b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 37 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 38 + b"\r\n\r\n",
    b"GET /" + b"a" * 26 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /" + b"a" * 27 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"A" * 32 + b" / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"A" * 33,
    b"GET / HTTP/1.1\r\nHost: a\r\r\n",
    b"GET / HTTP/1.1\r\nHost: a\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nA: \0",
    b"HTTP/1.1 200 " + b"a" * 27 + b"\r\n\r\n",
    b"HTTP/1.1 200 " + b"a" * 28 + b"\r\n\r\n",
)  # fmt: skip


class Counted(bytearray):
    """Counts the octets that are looked at."""

    seen = 0

    def find(self, what: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        end = len(self) if end is None else min(end, len(self))
        found = super().find(what, start, end)
        self.seen += (end if found < 0 else found + len(what)) - start
        return found

    def rfind(self, what: bytes, start: int = 0) -> int:  # type: ignore[override]
        found = super().rfind(what, start)
        self.seen += len(self) - max(start, found)
        return found

    def count(self, what: bytes, start: int = 0) -> int:  # type: ignore[override]
        self.seen += len(self) - start
        return super().count(what, start)

    def __getitem__(self, key: Any) -> Any:
        self.seen += len(range(*key.indices(len(self)))) if isinstance(key, slice) else 1
        return super().__getitem__(key)


def anew(parse: Parse, limits: HeadLimits, segments: list[bytes]) -> tuple[int, object]:
    """What comes of it, and with which segment, where all octets are parsed with each."""
    data = b""
    for number, segment in enumerate(segments):
        data += segment
        try:
            parsed = parse(data, limits)
        except ProtocolError as e:
            return number, (e.args, e.status, e.limit)
        if parsed is not None:
            return number, (attributes_of(parsed[0]), parsed[1])
    return len(segments), None


def going_on(
    parse: Parse,
    refuse: Callable[[Incomplete, HeadLimits], None],
    limits: HeadLimits,
    segments: list[bytes],
) -> tuple[int, object]:
    """The same, as connections do it."""
    incomplete = None
    for number, data in enumerate(segments):
        try:
            if incomplete is not None and not (data := incomplete.more(data)):
                continue
            parsed = parse(data, limits)
            if parsed is not None:
                return number, (attributes_of(parsed[0]), parsed[1])
            incomplete = Incomplete(data, limits, refuse)
        except ProtocolError as e:
            return number, (e.args, e.status, e.limit)
    return len(segments), None


def attributes_of(head: Any) -> object:
    names = type(head).__slots__
    return attributes(head) if "section" in names and "method" in names else repr(head)


class SameTests(SynchronousTestCase):
    """With the same segment the same end as that of a parser that is given all octets each time."""

    def check(self, data: bytes, limits: HeadLimits) -> None:
        for parse, refuse in ((parse_request, refuse_request), (parse_get, refuse_response)):
            for segments in (octet_by_octet(data), *segmentations(data)):
                self.assertEqual(
                    going_on(parse, refuse, limits, segments), anew(parse, limits, segments), data
                )

    def test_limits_and_seams(self) -> None:
        for data in BEGINNINGS:
            self.check(data, SMALL)
            self.check(data, LIMITS)

    def test_the_corpus(self) -> None:
        samples = [
            sample.octets
            for kind in ("requests/valid", "requests/invalid", "responses/valid")
            for sample in corpus.load(kind)
        ]
        self.assertGreater(len(samples), 200)
        for data in samples:
            pieces = octet_by_octet(data[:600])
            for limits in (LIMITS, SMALL):
                for parse, refuse in (
                    (parse_request, refuse_request),
                    (parse_get, refuse_response),
                ):
                    self.assertEqual(
                        going_on(parse, refuse, limits, pieces), anew(parse, limits, pieces), data
                    )


class LinearTests(SynchronousTestCase):
    """Octets looked at, for each octet that comes."""

    MOST = 80  # a few passes over what is new, the seam, and a bounded beginning (a method)

    def drip(self, incomplete: Incomplete, data: bytes) -> None:
        counted = incomplete.octets = Counted(incomplete.octets)
        for octet in octet_by_octet(data):
            self.assertEqual(incomplete.more(octet), b"")
        self.assertLess(counted.seen, self.MOST * len(data))
        self.assertGreater(counted.seen, len(data))

    def test_request_head(self) -> None:
        first = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
        for long in (b"y" * 20_000, (b"y" * 300 + b"\r\nX: ") * 66):
            self.drip(Incomplete(first, LIMITS, refuse_request), long)

    def test_request_line(self) -> None:
        for first in (b"GET /", b"\r\nGET http://a/"):
            self.drip(Incomplete(first, LIMITS, refuse_request), b"y" * 20_000)

    def test_after_an_unusual_request_line(self) -> None:
        line = b"GET http://a/" + b"y" * 20_000 + b" HTTP/1.1\r\n"
        self.drip(Incomplete(line, LIMITS, refuse_request), b"Host: a\r\nX: " + b"y" * 5000)

    def test_response_head(self) -> None:
        for first in (b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\nX: "):
            self.drip(Incomplete(first, LIMITS, refuse_response), b"y" * 20_000)

    def test_trailers(self) -> None:
        reader = ChunkedReader()
        reader.receive(b"0\r\nX: y")
        incomplete = reader._incomplete
        assert incomplete is not None
        counted = incomplete.octets = Counted(incomplete.octets)
        for octet in octet_by_octet(b"y" * 8000):
            reader.receive(octet)
        self.assertLess(counted.seen, self.MOST * 8000)
        reader.receive(b"\r\n\r\n")
        self.assertEqual(reader.trailers, [(b"x", b"y" * 8001)])
