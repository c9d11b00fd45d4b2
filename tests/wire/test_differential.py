"""Whatever our parser accepts, h11 and llhttp frame identically: else it is listed here, argued.

Compared are the number of requests, and of each method, target, version, octets of content and
whether the connection lasts. What we refuse is not compared: stricter is what we are for. Where
another refuses what we accept there is no smuggling, since we write each message anew; where both
accept, nothing may differ but what is in this table.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy.wire.errors import ProtocolError
from authproxy.wire.heads import ResponseHead

from .corpus import load
from .feeding import NEXT_REQUEST, read_response
from .generated import (
    CHUNKED_OCTETS,
    NEARLY_CHUNKED,
    REQUEST_OCTETS,
    REQUESTS,
    RESPONSE_OCTETS,
    origin_form,
    other_field,
)
from .others import Framed, Reading, by_h11, by_llhttp, ours, response_by_llhttp

# Streams of requests: most are good, and long enough to go out of step.
_FRAMED = st.builds(
    lambda method, target, fields, content: (
        b" ".join([method, target, b"HTTP/1.1\r\nHost: a\r\n"])
        + b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        + content
    ),
    st.sampled_from([b"GET", b"POST", b"PUT", b"OPTIONS", b"HEAD", b"DELETE"]),
    origin_form,
    st.lists(other_field, max_size=3),
    st.one_of(
        st.just(b"\r\n"),
        st.binary(max_size=30).map(lambda data: b"Content-Length: %d\r\n\r\n" % len(data) + data),
        CHUNKED_OCTETS.map(lambda data: b"Transfer-Encoding: chunked\r\n\r\n" + data),
        NEARLY_CHUNKED.map(lambda data: b"Transfer-Encoding: chunked\r\n\r\n" + data),
    ),
)
STREAMS = st.lists(
    st.one_of(_FRAMED, _FRAMED, _FRAMED, REQUESTS, REQUEST_OCTETS), min_size=1, max_size=4
).map(b"".join)


class Difference(NamedTuple):
    """One that is known. holds: whether it is this one, of (octets, our reading, theirs)."""

    parser: str
    holds: Callable[[bytes, list[Framed], Reading], bool]
    why: str


def refusal(words: str) -> Callable[[bytes, list[Framed], Reading], bool]:
    """They refuse with these words, and have read alike what came before."""
    expression = re.compile(words)

    def holds(octets: bytes, expected: list[Framed], reading: Reading) -> bool:
        before = expected[: len(reading.requests)]
        return bool(expression.search(reading.refused)) and reading.requests == before

    return holds


def closes_after_http10(octets: bytes, expected: list[Framed], reading: Reading) -> bool:
    last = len(reading.requests) - 1
    if last < 0 or len(expected) <= last or reading.refused:
        return False
    ours_of_it = expected[last]
    return ours_of_it.version == 10 and reading.requests == [
        *expected[:last],
        ours_of_it._replace(keep_alive=False),
    ]


def content_behind_an_upgrade(octets: bytes, expected: list[Framed], reading: Reading) -> bool:
    return bool(re.search(rb"(?i)\r\nupgrade:", octets)) and any(
        theirs.content != one.content and not theirs.content
        for one, theirs in zip(expected, reading.requests, strict=False)
    )


KNOWN = {
    "h11: empty line first": Difference(
        "h11", refusal("^no request line received$"),
        "RFC 9112 2.2 wants one skipped; h11 refuses it. We do not pass it on.",
    ),
    "h11: HTTP/1.0 never lasts": Difference(
        "h11", closes_after_http10,
        "h11 knows no keep-alive of HTTP/1.0. Upstream gets HTTP/1.1, and the requests are ours to"
        " tell apart.",
    ),
    "llhttp: chunk extensions": Difference(
        "llhttp", refusal("[Ii]nvalid character in chunk extensions"),
        "llhttp wants names and values in them; we drop them, whatever visible characters they"
        " are.",
    ),
    "llhttp: methods": Difference(
        "llhttp", refusal("[Ii]nvalid method"),
        "llhttp has a list of methods; a method is any token (RFC 9110 9.1).",
    ),
    "llhttp: upgrade with content": Difference(
        "llhttp", content_behind_an_upgrade,
        "llhttp leaves HTTP at the head of whatever asks for an upgrade. We never upgrade a request"
        " with content, and send no Upgrade field upstream with one.",
    ),
}  # fmt: skip


# Of responses that we accept llhttp refuses, and we write anew: extensions of chunks that are no
# names and values.
RESPONSES_REFUSED = "chunk extensions"


class Differential(SynchronousTestCase):
    def setUp(self) -> None:
        self.met: Counter[str] = Counter()

    def compare(self, octets: bytes) -> None:
        expected, refused = ours(octets)
        for parser, read in (("h11", by_h11), ("llhttp", by_llhttp)):
            reading = read(octets)
            # What they refuse, or see, where we want more octets or refuse, is not of interest:
            # but where we only want more, they may not have seen another request already.
            theirs = reading.requests[: len(expected)] if refused else reading.requests
            if theirs == expected:
                continue
            for name, known in KNOWN.items():
                if known.parser == parser and known.holds(octets, expected, reading):
                    self.met[name] += 1
                    break
            else:
                self.fail(f"{parser} of {octets!r}:\nours {expected} {refused}\ntheirs {reading}")

    def test_corpus(self) -> None:
        for sample in load("requests/valid"):
            for behind in (b"", NEXT_REQUEST):
                self.compare(sample.octets + behind)
        # Each known difference is one, and has its file.
        self.assertEqual(set(self.met), set(KNOWN))

    @settings(max_examples=300)
    @given(STREAMS)
    def test_streams(self, octets: bytes) -> None:
        self.compare(octets)


class Responses(SynchronousTestCase):
    """Of responses: what answers a GET, all that comes before the connection closes."""

    def compare(self, octets: bytes) -> None:
        try:
            message = read_response([octets])
        except ProtocolError:
            return
        if message is None or message.head.status < 200:
            return  # llhttp reads on to the final one
        assert isinstance(message.head, ResponseHead)
        status, content = response_by_llhttp(octets)
        if isinstance(status, str):
            self.assertRegex(status, RESPONSES_REFUSED, octets)
            return
        self.assertEqual((status, content), (message.head.status, message.content), octets)

    def test_corpus(self) -> None:
        for sample in load("responses/valid"):
            if "method" not in sample.settings:
                self.compare(sample.octets)

    @settings(max_examples=300)
    @given(st.builds(lambda head, content: head + content, RESPONSE_OCTETS, NEARLY_CHUNKED))
    def test_generated(self, octets: bytes) -> None:
        self.compare(octets)
