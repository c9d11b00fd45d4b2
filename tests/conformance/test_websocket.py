"""RFC 6455 and 7692 through the proxy: raw frames get what they get without it.

Each case goes to the echoing server directly, through the proxy over HTTP/1.1 and TLS, and inside a
stream of HTTP/2 (RFC 8441): the same octets come back, and the same end.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import zlib
from collections.abc import Callable, Sequence
from typing import ClassVar

from tests.e2e.clients import HTTP2, Seen
from tests.e2e.processes import (
    HOST,
    LOOPBACK,
    EndToEnd,
    Origin,
    Proxy,
    Stage,
    connect,
    read_head,
    request,
)

from .websocket_cases import CASES
from .websocket_frames import (
    CLOSE,
    RSV1,
    TAIL,
    Case,
    close,
    received_frames,
)

LEAST = 150
LAST = close(1000)
SMALL = 300  # octets of a case that is also sent one by one
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
Outcome = tuple[bytes, str]


def handshake(case: Case) -> bytes:
    """The opening handshake of HTTP/1.1."""
    fields = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}",
              "Sec-WebSocket-Version: 13"]  # fmt: skip
    if case.extensions:
        fields.append(f"Sec-WebSocket-Extensions: {case.extensions}")
    return request(case.path, *fields)


def on_socket(sock: socket.socket, case: Case, pieces: Sequence[bytes]) -> Outcome:
    """What came, and how it ended."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(handshake(case))
    head = read_head(sock)
    if not head.startswith(b"HTTP/1.1 101 "):
        raise AssertionError(f"{case.name}: {head!r}")
    received = bytearray()
    # A server that has closed takes no more; what it said before is there to be read.
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        for piece in pieces:
            sock.sendall(piece)
    try:
        while data := sock.recv(65536):
            received += data
    except (ConnectionError, ssl.SSLError) as e:
        return bytes(received), type(e).__name__
    return bytes(received), "end"


class InStreams:
    """Cases inside the streams of one connection of HTTP/2."""

    def __init__(self, client: HTTP2) -> None:
        self._client = client

    def run(self, case: Case) -> Outcome:
        client = self._client
        number = client.h2.get_next_available_stream_id()
        fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
                  (":authority", HOST), (":path", case.path),
                  ("sec-websocket-version", "13")]  # fmt: skip
        if case.extensions:
            fields.append(("sec-websocket-extensions", case.extensions))
        seen = client.streams[number] = Seen()
        client.h2.send_headers(number, fields)
        client.flush()
        client.until(lambda: seen.status or seen.over)
        if seen.status != 200:
            raise AssertionError(f"{case.name}: {seen}")
        for piece in (*case.sent, LAST):
            client.send(number, piece)
        client.until(lambda: seen.over)
        if not seen.cut and client.h2.streams[number].open:
            client.end(number)
        return bytes(seen.content), "end" if seen.ended else f"reset {seen.reset}"


class WebSockets(EndToEnd):
    origin: ClassVar[Origin]
    proxy: ClassVar[Proxy]
    tls: ClassVar[ssl.SSLContext]
    direct: ClassVar[dict[str, Outcome]]

    @classmethod
    def prepare(cls, stage: Stage) -> None:
        command = [sys.executable, "-m", "tests.conformance.echo"]
        cls.origin = stage.keep(Origin(command, stage.directory)).ready()
        cls.proxy = stage.proxy(stage.configuration(f"http://{LOOPBACK}:{cls.origin.port}"))
        cls.tls = stage.client_tls()
        cls.direct = {}
        for case in CASES:
            with connect(cls.origin.port) as sock:
                cls.direct[case.name] = on_socket(sock, case, (*case.sent, LAST))

    def compare(self, run: Callable[[Case], Outcome], cases: Sequence[Case] = CASES) -> None:
        wrong = []
        for case in cases:
            outcome, direct = run(case), self.direct[case.name]
            if outcome != direct:
                wrong.append(f"{case.name}: {_short(outcome)}, but directly {_short(direct)}")
        if wrong:
            self.fail("\n".join(wrong))

    def through(self, case: Case, pieces: Sequence[bytes]) -> Outcome:
        with connect(self.proxy.https) as raw:
            sock = self.tls.wrap_socket(raw, server_hostname=HOST, suppress_ragged_eofs=False)
            with sock:
                return on_socket(sock, case, pieces)

    def test_directly(self) -> None:
        """The server's verdicts are those of the RFCs."""
        wrong = []
        for case in CASES:
            received, end = self.direct[case.name]
            messages, code = _verdict(received)
            if messages != case.messages or code not in case.codes or end != "end":
                wrong.append(f"{case.name}: {_short((received, end))}")
        if wrong:
            self.fail("\n".join(wrong))

    def test_http1(self) -> None:
        self.compare(lambda case: self.through(case, (*case.sent, LAST)))

    def test_http1_octet_by_octet(self) -> None:
        small = [case for case in CASES if len(b"".join(case.sent)) <= SMALL]
        self.assertGreater(len(small), LEAST)

        def run(case: Case) -> Outcome:
            octets = b"".join(case.sent) + LAST
            return self.through(case, [octets[n : n + 1] for n in range(len(octets))])

        self.compare(run, small)

    def test_http1_at_once(self) -> None:
        several = [case for case in CASES if len(case.sent) > 1]
        self.compare(lambda case: self.through(case, [b"".join(case.sent) + LAST]), several)

    def test_http2(self) -> None:
        client = HTTP2(self.stage.connect(self.proxy, protocols=["h2"]))
        self.addCleanup(client.close)
        client.until(lambda: client.h2.remote_settings.enable_connect_protocol)
        self.compare(InStreams(client).run)

    def test_number_of_cases(self) -> None:
        self.assertGreaterEqual(len(CASES), LEAST)
        self.assertEqual(len({case.name for case in CASES}), len(CASES))


def _verdict(received: bytes) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """Messages, inflated, and the code of the Close."""
    frames = received_frames(received)
    inflate = zlib.decompressobj(-15)
    messages = tuple(
        (first & 0xF, inflate.decompress(payload + TAIL) if first & RSV1 else payload)
        for first, payload in frames
    )
    if not messages or messages[-1][0] != CLOSE:
        return messages, -1
    return messages[:-1], int.from_bytes(messages[-1][1][:2])


def _short(outcome: Outcome) -> str:
    received, end = outcome
    frames = [(first, payload[:20]) for first, payload in received_frames(received)]
    return f"{frames[:6]} {len(received)} octets, {end}"
