"""Our origin: what nginx cannot be, or cannot be trusted to count.

    python -m benchmarks.origin PLAIN_PORT TLS_PORT CERTIFICATE KEY

GET gets 100 octets, GET /octets/N gets N; a POST is read to its end, and the answer says how many
octets came; a WebSocket (RFC 6455 4.2.2) gets, for every message, one of the same size, of zeros.
Anything else ends the connection: the proxy then answers 502, and the measurement fails.
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import ssl
import sys
from collections.abc import Callable

from .sockets import TIMEOUT, Connection, Loop

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"\r\nsec-websocket-key: *([^\r]*)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r", re.IGNORECASE)
_OCTETS = re.compile(rb"GET /octets/([0-9]+) ")
SMALL = b"x" * 100


def accept_value(key: bytes) -> bytes:
    """Sec-WebSocket-Accept for this Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324  # RFC 6455


def frame(size: int) -> bytes:
    """A binary message of zeros, as a server sends it."""
    if size < 126:
        return b"\x82" + bytes([size]) + bytes(size)
    if size < 65536:
        return b"\x82\x7e" + size.to_bytes(2, "big") + bytes(size)
    return b"\x82\x7f" + size.to_bytes(8, "big") + bytes(size)


def frame_sizes(data: bytes) -> tuple[int, int] | None:
    """Octets of the header and of the payload of the frame that begins so; None: more needed."""
    if len(data) < 2:
        return None
    masked = 4 if data[1] & 0x80 else 0
    length = data[1] & 0x7F
    extended = {126: 2, 127: 8}.get(length, 0)
    if len(data) < 2 + extended:
        return None
    if extended:
        length = int.from_bytes(data[2 : 2 + extended], "big")
    return 2 + extended + masked, length


class Serving:
    """One connection. Its state is what `connection.received` is."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._pending = b""
        self._left = 0  # octets of an upload, or of a message
        self._octets = 0
        self._answer = b""
        connection.received = self._head
        connection.ended = lambda: None

    def _head(self, data: memoryview) -> None:
        self._pending += data
        while b"\r\n\r\n" in self._pending:
            head, _, self._pending = self._pending.partition(b"\r\n\r\n")
            key = _KEY.search(head)
            if key:
                self._open(key[1])
                return
            if head.startswith(b"POST "):
                length = _LENGTH.search(head + b"\r\n")
                if length is None:
                    self.connection.lost()
                    return
                self._octets = self._left = int(length[1])
                self.connection.received = self._upload
                rest, self._pending = self._pending, b""
                self._upload(memoryview(rest))
                return
            asked = _OCTETS.match(head)
            self._respond(bytes(int(asked[1])) if asked else SMALL)

    def _respond(self, content: bytes) -> None:
        self.connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
        )

    def _upload(self, data: memoryview) -> None:
        self._left -= len(data)
        if self._left <= 0:
            self.connection.received = self._head
            self._respond(b"%d" % (self._octets - self._left))

    def _open(self, key: bytes) -> None:
        self.connection.received = self._message
        self.connection.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept_value(key)
        )
        if self._pending:
            rest, self._pending = self._pending, b""
            self._message(memoryview(rest))

    def _message(self, data: memoryview) -> None:
        if not self._left:
            beginning = self._pending + bytes(data[:14])
            sizes = frame_sizes(beginning)
            if sizes is None:
                self._pending = beginning
                return
            self._left = sum(sizes) - len(self._pending)
            self._pending = b""
            if len(self._answer) < sizes[1] or self._octets != sizes[1]:
                self._octets, self._answer = sizes[1], frame(sizes[1])
        self._left -= len(data)
        if self._left < 0:
            self.connection.lost()  # more than one message in flight: nobody here sends that
        elif not self._left:
            self.connection.send(self._answer)


def accepting(loop: Loop, listener: socket.socket, context: ssl.SSLContext | None) -> None:
    """Serve who connects there. A handshake blocks the loop: it happens before the measuring."""
    listener.setblocking(False)

    def accept() -> None:
        try:
            sock, _ = listener.accept()
            sock.settimeout(TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                sock = context.wrap_socket(sock, server_side=True)
        except OSError:  # a probe that only connects, for one
            return
        Serving(Connection(loop, sock))

    loop.listen(listener, accept)


def main(plain: str, tls: str, certificate: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    loop = Loop()
    kinds: list[tuple[str, ssl.SSLContext | None]] = [(plain, None), (tls, context)]
    listeners: list[Callable[[], None]] = []
    for port, security in kinds:
        listener = socket.create_server(("127.0.0.1", int(port)), backlog=4096)
        accepting(loop, listener, security)
        listeners.append(listener.close)
    while True:
        loop.turn(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])
