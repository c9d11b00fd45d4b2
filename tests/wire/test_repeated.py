"""A head whose fields repeat those before it: the short cut makes no difference."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from authproxy.wire.errors import ProtocolError
from authproxy.wire.heads import HeadLimits, RequestHead
from authproxy.wire.requests import COMPARED, parse_request

from . import corpus

LIMITS = HeadLimits()
WEBSOCKET = (
    b"Host: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PAIRS = (
    # What the next head must not inherit: the authority of an absolute-form, ...
    (b"GET http://a.example/ HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"),
    (b"GET http://a.example/ HTTP/1.0\r\nX: y\r\n\r\n", b"GET / HTTP/1.0\r\nX: y\r\n\r\n"),
    (
        b"GET http://A.EXAMPLE/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ),
    # ... that it was no upgrade, ...
    (b"POST /ws/client/ HTTP/1.1\r\n" + WEBSOCKET, b"GET /ws/client/ HTTP/1.1\r\n" + WEBSOCKET),
    (b"GET /ws/client/ HTTP/1.1\r\n" + WEBSOCKET, b"POST /ws/client/ HTTP/1.1\r\n" + WEBSOCKET),
    # ... what another version means by the same fields, ...
    (
        b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n",
    ),
    (
        b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        b"POST / HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
    ),
    # ... an empty host, which is one only where no Host field says so, ...
    (b"GET / HTTP/1.0\r\nX: y\r\n\r\n", b"GET / HTTP/1.0\r\nHost:\r\n\r\n"),
    (b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"),
    # ... or a request line that is refused.
    (b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", b"TRACE / HTTP/1.1\r\nHost: a.example\r\n\r\n"),
    (
        b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
    ),
)


def outcome(data: bytes, before: RequestHead | None) -> object:
    """All that a head says, or how it was refused."""
    try:
        parsed = parse_request(data, LIMITS, before)
    except ProtocolError as e:
        return e.args
    if parsed is None:
        return None
    head, consumed = parsed
    slots = {name: getattr(head, name) for name in RequestHead.__slots__ if name != "section"}
    return slots, consumed


def head_of(data: bytes) -> RequestHead | None:
    try:
        parsed = parse_request(data, LIMITS)
    except ProtocolError:
        return None
    return parsed[0] if parsed else None


class RepeatedTests(SynchronousTestCase):
    def test_pairs(self) -> None:
        for first, second in PAIRS:
            before = head_of(first)
            assert before is not None
            self.assertEqual(outcome(second, before), outcome(second, None), second)

    def test_every_request_of_the_corpus_after_every_other(self) -> None:
        samples = [
            sample.octets
            for kind in ("valid", "invalid")
            for sample in corpus.load(f"requests/{kind}")
            if len(sample.octets) <= 2 * COMPARED
        ]
        self.assertGreater(len(samples), 100)
        heads = [head for head in map(head_of, samples) if head is not None]
        for data in samples:
            alone = outcome(data, None)
            for before in heads:
                self.assertEqual(outcome(data, before), alone, data)

    def test_it_is_taken(self) -> None:
        data = b"GET /1 HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\n\r\n"
        before = head_of(data)
        parsed = parse_request(data.replace(b"GET /1", b"GET /2"), LIMITS, before)
        assert before is not None
        assert parsed is not None
        self.assertIs(parsed[0].fields, before.fields)
        self.assertEqual(parsed[0].target, b"/2")

    def test_a_long_section_is_not_kept(self) -> None:
        head = head_of(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * COMPARED + b"\r\n\r\n")
        assert head is not None
        self.assertEqual(head.section, b"")
