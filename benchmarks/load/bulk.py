"""One large content, down or up, over TLS; and that every octet came."""

from __future__ import annotations

import re
import socket

from ..sockets import client_context, connect
from . import LoadError

PIECE = 65536
_HEAD = re.compile(rb"HTTP/1\.1 200 .*\r\ncontent-length: *(\d+)\r\n", re.DOTALL | re.IGNORECASE)


def download(port: int, octets: int) -> None:
    """GET so many octets."""
    with connect(port, client_context()) as sock:
        sock.sendall(b"GET /octets/%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % octets)
        length, left = _response(sock)
        if length != octets:
            raise LoadError(f"{length} octets were announced, not {octets}")
        buffer = bytearray(PIECE)
        came = len(left)
        while came < octets and (count := sock.recv_into(buffer)):
            came += count
    if came != octets:
        raise LoadError(f"{came} octets came, not {octets}")


def upload(port: int, octets: int) -> None:
    """POST so many octets; the answer says how many came."""
    piece = memoryview(bytes(PIECE))
    with connect(port, client_context()) as sock:
        sock.sendall(
            b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % octets
        )
        left = octets
        while left > 0:
            sock.sendall(piece[: min(left, PIECE)])
            left -= PIECE
        length, content = _response(sock)
        while len(content) < length and (more := sock.recv(length - len(content))):
            content += more
    if content != b"%d" % octets:
        raise LoadError(f"{content!r} octets came, not {octets}")


def _response(sock: socket.socket) -> tuple[int, bytes]:
    """The length of the content, and its beginning, as far as it came with the head."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(PIECE)
        if not piece:
            raise LoadError(f"no response, but {data!r}")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    match = _HEAD.match(head + b"\r\n")
    if match is None:
        raise LoadError(f"not the answer: {head!r}")
    return int(match[1]), rest
