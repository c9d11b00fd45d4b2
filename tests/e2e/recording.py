"""A raw upstream server that keeps every request as it came, and reads it as strictly as can be.

It shares no code with the proxy: what it takes for the end of a request is its own opinion. A head
has one framing field or none, a chunk has a plain size, and nothing else is understood at all.
"""

from __future__ import annotations

import re
import socket
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from authproxy.wire.heads import RequestHead

from .processes import LOOPBACK, read_exactly, read_head

_HEAD = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) (/[!-~]*|\*) HTTP/1\.1\r\n"
    rb"((?:[a-z0-9-]+: ?(?:[\t -~\x80-\xff]*)\r\n)*)\r\n"
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ONE_EACH = (b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"via")
NEVER = (
    b"keep-alive", b"te", b"trailer", b"proxy-connection", b"proxy-authorization", b"forwarded",
    b"x-real-ip", b"cf-connecting-ip", b"true-client-ip", b"x-forwarded-port",
    b"x-forwarded-server", b"x-forwarded-prefix", b"ssl-client-cert", b"http2-settings",
)  # fmt: skip


class Recorded(NamedTuple):
    """One request as the server understood it; trailers are the octets of their lines."""

    method: bytes
    target: bytes
    fields: list[tuple[bytes, bytes]]
    content: bytes
    trailers: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for other, value in self.fields if other == name]


class RecordingOrigin:
    """Answers everything with "ok", but a target that is in `answers` with those octets; then it
    closes the connection. `recorded` are the requests, in the order in which they were complete."""

    def __init__(self) -> None:
        self.recorded: list[Recorded] = []
        self.answers: dict[bytes, bytes] = {}

    def converse(self, sock: socket.socket) -> None:
        """The conversation of a ScriptedOrigin."""
        while _peek(sock):
            request = read_recorded(sock)
            self.recorded.append(request)
            answer = self.answers.get(request.target)
            if answer is not None:
                sock.sendall(answer)
                return
            sock.sendall(OK if request.method != b"HEAD" else OK[:-2])

    def take(self) -> list[Recorded]:
        """What came since the last time."""
        taken = self.recorded[:]
        del self.recorded[: len(taken)]
        return taken


def _peek(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1, socket.MSG_PEEK)
    except OSError:
        return b""


def read_recorded(sock: socket.socket) -> Recorded:
    """One request; raises AssertionError for what this proxy would never send."""
    octets = read_head(sock)
    match = _HEAD.fullmatch(octets)
    assert match is not None, octets
    method, target, section = match.groups()
    fields = []
    for line in section.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        fields.append((name, value.strip(b" \t")))
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    assert len(lengths) + len(codings) < 2, octets
    if [value for name, value in fields if name == b"expect"]:
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    content = trailers = b""
    if lengths:
        assert re.fullmatch(rb"0|[1-9][0-9]*", lengths[0]), octets
        content = read_exactly(sock, int(lengths[0]))
    elif codings:
        assert codings == [b"chunked"], octets
        content, trailers = _read_chunks(sock)
    return Recorded(method, target, fields, content, trailers)


def _read_line(sock: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        line += read_exactly(sock, 1)
    return line[:-2]


def _read_chunks(sock: socket.socket) -> tuple[bytes, bytes]:
    content = trailers = b""
    while True:
        size = _read_line(sock)
        assert re.fullmatch(rb"[0-9a-fA-F]+", size), size  # no extension, no sign, no space
        if not int(size, 16):
            break
        content += read_exactly(sock, int(size, 16))
        end = read_exactly(sock, 2)
        assert end == b"\r\n", end
    while line := _read_line(sock):
        trailers += line + b"\r\n"
    return content, trailers


class Forwarded(SynchronousTestCase):
    """What every request must look like that came through the proxy, whoever sent it and how."""

    def is_forwarded(
        self, came: Recorded, head: RequestHead, host: bytes, scheme: bytes, how: str
    ) -> None:
        """`head` is what the client said, from loopback, with this host and by this scheme."""
        self.assertEqual((came.method, came.target), (head.method, head.target), how)
        for name in ONE_EACH:
            self.assertEqual(len(came.values(name)), 1, f"{name!r} of {how}")
        self.assertEqual(came.values(b"x-forwarded-for"), [LOOPBACK.encode()], how)
        self.assertEqual(came.values(b"x-forwarded-host"), [host], how)
        self.assertEqual(came.values(b"x-forwarded-proto"), [scheme], how)
        self.assertEqual(came.values(b"host"), [host], how)
        for name in (*NEVER, *ONE_EACH):
            self.assertNotIn(name + b":", came.trailers, how)
        for name in NEVER:
            self.assertEqual(came.values(name), [], f"{name!r} of {how}")
        changing = [b"upgrade"] if head.upgrade else []
        self.assertEqual(came.values(b"connection"), changing, how)
        self.assertEqual(came.values(b"upgrade"), [b"websocket"] if head.upgrade else [], how)
