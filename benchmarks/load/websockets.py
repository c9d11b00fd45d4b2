"""WebSockets over TLS: messages that come back, and sockets that only stay open.

A message is one round trip: a masked frame of the client's to the origin, and a frame of the same
size back. Every connection has one in flight. RFC 6455 5.2, 5.3.
"""

from __future__ import annotations

import os
import socket
from base64 import b64encode

from ..origin import accept_value, frame
from ..sockets import Connection, Loop, client_context, open_many
from . import LoadError

MASK = b"\x12\x34\x56\x78"


def masked_frame(size: int) -> bytes:
    """A binary message of zeros, as a client sends it: masked, the zeros are the mask."""
    plain = frame(size)
    header = plain[: len(plain) - size]
    return (
        header[:1] + bytes([header[1] | 0x80]) + header[2:] + MASK + (MASK * (size // 4 + 1))[:size]
    )


class Sockets:
    """Open WebSockets, each of which has had one message there and back."""

    def __init__(self, port: int, count: int, size: int) -> None:
        self._size = size
        self.loop = Loop()
        self.done = 0
        self._echoes = [
            _Echo(self, Connection(self.loop, sock), size)
            for sock in open_many(count, port, client_context(), self._greet)
        ]

    def run(self, seconds: float) -> int:
        """Messages on all of them for so long. Returns the number of round trips."""
        before = self.done
        for echo in self._echoes:
            echo.start()
        self.loop.run(seconds)
        return self.done - before

    def close(self) -> None:
        self.loop.close()

    def _greet(self, sock: socket.socket) -> None:
        key = b64encode(os.urandom(16))
        sock.sendall(
            b"GET /ws/client/ HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
            % key
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = sock.recv(65536)
            if not piece:
                raise LoadError(f"no WebSocket: {head!r}")
            head += piece
        if not head.startswith(b"HTTP/1.1 101 ") or accept_value(key) not in head:
            raise LoadError(f"no WebSocket: {head!r}")
        sock.sendall(masked_frame(self._size))
        expected = frame(self._size)
        came = b""
        while len(came) < len(expected) and (piece := sock.recv(65536)):
            came += piece
        if came != expected:
            raise LoadError(f"not the message that was sent: {len(came)} octets")


class _Echo:
    def __init__(self, sockets: Sockets, connection: Connection, size: int) -> None:
        self._sockets = sockets
        self._connection = connection
        self._message = masked_frame(size)
        self._header = frame(size)[:2]
        self._octets = self._left = len(frame(size))
        self._busy = False
        connection.received = self._received

    def start(self) -> None:
        if not self._busy:
            self._busy = True
            self._connection.send(self._message)

    def _received(self, data: memoryview) -> None:
        if self._left == self._octets and data[:2] != self._header[: len(data)]:
            raise LoadError(f"not a message of the right kind: {bytes(data[:16])!r}")
        self._left -= len(data)
        if self._left < 0:
            raise LoadError("more came than was sent")
        if not self._left:
            self._left = self._octets
            self._sockets.done += 1
            self._connection.send(self._message)
