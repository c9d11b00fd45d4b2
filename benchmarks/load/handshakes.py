"""Full TLS handshakes: connect, handshake, one GET with Connection: close, read to the end.

Never a session of before. Blocking threads, of which OpenSSL's part runs without the interpreter's
lock.
"""

from __future__ import annotations

import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

from ..sockets import client_context, connect
from . import LoadError

THREADS = 4
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def handshakes(port: int, seconds: float) -> int:
    """As many as can be done in this time. Returns their number."""
    context = client_context()
    end = time.monotonic() + seconds

    def some(_: int) -> int:
        count = 0
        while time.monotonic() < end:
            _one(port, context)
            count += 1
        return count

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(some, range(THREADS)))


def _one(port: int, context: ssl.SSLContext) -> None:
    sock = connect(port, context)
    assert isinstance(sock, ssl.SSLSocket)
    with sock:
        if sock.session_reused or sock.version() != "TLSv1.3":
            raise LoadError(f"not a full handshake of TLS 1.3: {sock.version()}")
        sock.sendall(REQUEST)
        answer = b"".join(_pieces(sock))
    if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b"x" * 100):
        raise LoadError(f"not the answer: {answer[:200]!r}")


def _pieces(sock: socket.socket) -> list[bytes]:
    pieces = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return pieces
