"""tests/corpus over HTTP/2, with an upstream server that records.

The files of http2/ as they are, and those of requests/valid as far as HTTP/2 can say them. What
upstream sees must be what HTTP/1.1 makes of it: of what is refused nothing, of what is accepted
exactly that, framed anew, and with no identity but the proxy's.
"""

from __future__ import annotations

import ssl
from typing import ClassVar

from authproxy.wire.framing import options
from authproxy.wire.heads import Fields, RequestHead

from ..conformance.frames import (
    END_HEADERS,
    END_STREAM,
    block,
    continuation,
    data,
    headers,
)
from ..conformance.http2_message_cases import CONTENT, FIELDS, MALFORMED, PSEUDO
from ..conformance.http2_peer import Answered, Case, Peer
from ..wire.corpus import Stream, load, load_streams
from ..wire.feeding import Message, read_request
from .processes import HOST, EndToEnd, Proxy, Stage, connect
from .recording import Forwarded, Recorded, RecordingOrigin

FRAME = 16384  # octets: more no client may send unasked (RFC 9113 4.2)
PROBE = b"/"  # what Peer asks for afterwards, with its Host
# RFC 9113 8.2.2; and what the pseudo-header fields say.
OF_HTTP_1 = {
    b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"host",
}  # fmt: skip


def steps(stream: int, fields: Fields, content: bytes | None, trailers: Fields) -> list[bytes]:
    """The frames of a request; of a WebSocket's handshake alone, which says nothing behind it."""
    handshake = (b":method", b"CONNECT") in fields
    sent = _head(stream, fields, content is None and not handshake)
    if content is not None and not handshake:
        pieces = [content[at : at + FRAME] for at in range(0, len(content), FRAME)] or [b""]
        sent += [data(stream, piece) for piece in pieces[:-1]]
        sent.append(data(stream, pieces[-1], 0 if trailers else END_STREAM))
        if trailers:
            sent += _head(stream, trailers, True)
    return sent


def _head(stream: int, fields: Fields, ended: bool) -> list[bytes]:
    packed = block([*fields])
    first, rest = packed[:FRAME], packed[FRAME:]
    flags = (END_STREAM if ended else 0) | (0 if rest else END_HEADERS)
    sent = [headers(stream, first, flags)]
    while rest:
        piece, rest = rest[:FRAME], rest[FRAME:]
        sent.append(continuation(stream, piece, 0 if rest else END_HEADERS))
    return sent


def translated(message: Message) -> tuple[Fields, bytes | None]:
    """A request of HTTP/1.x in HTTP/2, and its content. Without a Host there is none."""
    head = message.head
    assert isinstance(head, RequestHead)
    upgrade = head.upgrade
    named = options(b",".join(value for name, value in head.fields if name == b"connection"))
    left_out = OF_HTTP_1 | named | ({b"sec-websocket-key"} if upgrade else set())
    fields: Fields = [
        (b":method", b"CONNECT" if upgrade else head.method),
        (b":scheme", b"https"),
        (b":authority", head.host),
        (b":path", head.target),
    ]
    if upgrade:
        fields.append((b":protocol", b"websocket"))
    for name, value in head.fields:
        if name not in left_out and (name != b"te" or value.lower() == b"trailers"):
            fields.append((name, value))
    return fields, message.content if head.length or upgrade else None


class Corpus(Forwarded, EndToEnd):
    """All in front of one proxy, each file on a connection of its own."""

    origin: ClassVar[RecordingOrigin]
    proxy: ClassVar[Proxy]
    tls: ClassVar[ssl.SSLContext]

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        cls.origin = RecordingOrigin()
        upstream = stage.scripted(cls.origin.converse)
        cls.tls = stage.client_tls("h2")
        cls.proxy = stage.proxy(stage.configuration(upstream.url, {"hosts": []}))

    def run_case(self, name: str, sent: list[bytes | Answered]) -> tuple[str, list[Recorded]]:
        """What happened to stream 1, and what upstream saw of it, without the probe behind."""
        raw = connect(self.proxy.https)
        self.addCleanup(raw.close)
        sock = self.tls.wrap_socket(raw, server_hostname=HOST, suppress_ragged_eofs=False)
        with sock:
            happened = Peer(sock).run(Case(name, "", (*sent, Answered(1)), ()))
        came = self.origin.take()
        if happened.startswith("connection "):  # which ends with that
            return happened, came
        self.assertTrue(came, f"{name}: {happened}, and then nothing more")
        self.assertEqual((came[-1].target, came[-1].values(b"host")), (PROBE, [HOST.encode()]))
        return happened, came[:-1]

    def test_refused(self) -> None:
        for sample in load_streams("http2/invalid"):
            sent = steps(1, sample.fields, sample.content, sample.trailers)
            happened, came = self.run_case(sample.name, [*sent])
            self.assertEqual(came, [], sample.name)
            allowed = f"status {sample.status}", "connection PROTOCOL_ERROR"
            self.assertIn(happened, allowed, f"{sample.name}: {happened}")

    def test_refused_by_the_tables(self) -> None:
        """What RFC 9113 calls malformed, in tests/conformance: of that upstream sees nothing."""
        count = 0
        for case in (*CONTENT, *FIELDS, *PSEUDO):
            if case.stream != 1 or not set(case.allowed) <= {*MALFORMED, "status 405"}:
                continue
            count += 1
            happened, came = self.run_case(case.name, [*case.sent])
            self.assertEqual(came, [], f"{case.name}: {happened}")
        self.assertGreater(count, 50)

    def test_accepted(self) -> None:
        for sample in load_streams("http2/valid"):
            named = dict(sample.fields)
            method = b"GET" if b":protocol" in named else named[b":method"]
            host = named.get(b":authority") or named[b"host"]
            head = RequestHead(
                method, named[b":path"], 20, sample.fields, host, upgrade=b":protocol" in named
            )
            sent = steps(1, sample.fields, sample.content, sample.trailers)
            self.is_the_same(sample, head, sent, sample.content or b"")

    def test_what_http_1_can_say(self) -> None:
        """requests/valid: a new file there is one here, too."""
        count = 0
        for sample in load("requests/valid"):
            message = read_request([sample.octets])
            assert message is not None
            head = message.head
            assert isinstance(head, RequestHead)
            if not head.host:
                continue
            count += 1
            fields, content = translated(message)
            sent = steps(1, fields, content, message.trailers)
            stream = Stream(sample.name, sample.words, sample.settings, fields, content, [])
            self.is_the_same(stream, head, sent, message.content)
        self.assertGreater(count, 60)

    def is_the_same(
        self, sample: Stream, head: RequestHead, sent: list[bytes], content: bytes
    ) -> None:
        # In one piece: an answer may overtake an end of the stream that comes by itself, which then
        # is one of a stream that is closed.
        happened, came = self.run_case(sample.name, [b"".join(sent)])
        how = f"{sample.name}: {happened}"
        if head.target == b"*":  # this proxy's own to answer
            self.assertEqual((happened, came), ("status 204", []), how)
            return
        # To a handshake a 200 says nothing, upstream: what it would say to the client is not so.
        self.assertEqual(happened, "status 502" if head.upgrade else "status 200", how)
        [one] = came
        self.is_forwarded(one, head, head.host, b"https", how)
        self.assertEqual(one.content, content, how)
        self.assertEqual(one.values(b"via"), [b"2.0 authproxy"], how)
        for name in sample.settings.get("lacks", b"").split():
            self.assertEqual(one.values(name), [], f"{name!r} of {how}")
            self.assertNotIn(name + b":", one.trailers, how)
        for name in sample.settings.get("keeps", b"").split():
            value = next(value for other, value in sample.fields if other == name)
            self.assertEqual(one.values(name), [value], f"{name!r} of {how}")

    def test_repeated_on_one_connection(self) -> None:
        """What repeats the fields of the request before is not looked at again."""
        for sample in load_streams("http2/valid"):
            if sample.content is not None:
                continue
            sent: list[bytes | Answered] = []
            for stream in (1, 3, 5):
                sent += [*steps(stream, sample.fields, None, []), Answered(stream)]
            _, came = self.run_case(sample.name, sent)
            self.assertEqual(len(came), 3, sample.name)
            self.assertEqual(came[1:], came[:-1], sample.name)
