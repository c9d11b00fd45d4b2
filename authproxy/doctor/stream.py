"""Owns a socket, plain or TLS, whose every operation ends by one deadline.

A server that gives an octet a second must not hold an examination: the deadline is absolute. What
goes wrong is an OSError whose text can be shown.
"""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import time
from functools import partial
from typing import Any

from OpenSSL import SSL

from ..upstream_tls import UpstreamTLS

PIECE = 65536  # octets; what one recv asks for


class Stream:
    """One connection. http.client can read from it as from a socket.

    `source` and `peer` are the addresses of both ends ("" for a unix socket); `tls` is the OpenSSL
    connection, once `secure` was called. `end` is the deadline, by time.monotonic.
    """

    def __init__(self, sock: socket.socket, end: float) -> None:
        self._sock = sock
        self._end = end
        self.tls: SSL.Connection | None = None
        inet = sock.family in (socket.AF_INET, socket.AF_INET6)
        self.source: str = sock.getsockname()[0] if inet else ""
        self.peer: str = sock.getpeername()[0] if inet else ""

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def secure(self, tls: UpstreamTLS) -> None:
        """TLS from now on. Nothing of the certificate is a reason to fail here."""
        connection = tls.connection(self._sock)
        self._again(connection, connection.do_handshake)
        self.tls = connection

    @property
    def protocol(self) -> bytes:
        """What ALPN chose, b"" for nothing."""
        return self.tls.get_alpn_proto_negotiated() if self.tls is not None else b""

    def sendall(self, data: bytes) -> None:
        """All of it."""
        while data:
            piece = data[:PIECE]
            if self.tls is not None:
                sent: int = self._again(self.tls, partial(self.tls.send, piece))
            else:
                self._wait(write=True)
                sent = self._sock.send(piece)
            data = data[sent:]

    def recv(self, most: int) -> bytes:
        """Some octets; b"" at the end."""
        tls = self.tls
        if tls is None:
            self._wait(write=False)
            return self._sock.recv(most)
        try:
            data: bytes = self._again(tls, lambda: tls.recv(most))
        except EOFError:
            return b""
        return data

    def makefile(self, mode: str) -> io.BufferedReader:
        """What http.client reads from."""
        return io.BufferedReader(_Reader(self), PIECE)

    def close(self) -> None:
        """Now; nobody waits for what is on its way."""
        self._sock.close()

    def _again(self, tls: SSL.Connection, operation: Any) -> Any:
        """Do it as often as OpenSSL wants something of the socket."""
        while True:
            try:
                return operation()
            except SSL.WantReadError:
                self._wait(write=False)
            except SSL.WantWriteError:
                self._wait(write=True)
            except SSL.ZeroReturnError:
                raise EOFError from None
            except SSL.SysCallError as e:
                if e.args and isinstance(e.args[0], int) and e.args[0] > 0:
                    raise OSError(e.args[0], os.strerror(e.args[0])) from None
                if self.tls is None:
                    raise ConnectionError("the connection was closed in the handshake") from None
                raise EOFError from None
            except SSL.Error as e:
                raise ConnectionError(_tls_words(e)) from None

    def _wait(self, *, write: bool) -> None:
        left = max(0.0, self._end - time.monotonic())
        reading, writing = ([], [self._sock]) if write else ([self._sock], [])
        if not left or not any(select.select(reading, writing, [], left)):
            raise TimeoutError("no answer in time")


class _Reader(io.RawIOBase):
    """A stream as a file."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        data = self._stream.recv(len(target))
        target[: len(data)] = data
        return len(data)


def dial(address: str, port: int, end: float) -> Stream:
    """Connect to an IP address, or to a unix socket where `address` begins with "/". OSError."""
    if address.startswith("/"):
        family, where = socket.AF_UNIX, address
    else:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        where = (address, port)  # type: ignore[assignment]
    sock = socket.socket(family)
    try:
        sock.setblocking(False)
        error = sock.connect_ex(where)
        if error == errno.EINPROGRESS:
            left = max(0.0, end - time.monotonic())
            if not select.select((), (sock,), (), left)[1]:
                raise TimeoutError("no answer in time")
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        return Stream(sock, end)
    except BaseException:
        sock.close()
        raise


def source_towards(address: str, port: int) -> str:
    """The address of this machine from which it would connect there. Nothing is sent. OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((address, port or 9))
        source: str = sock.getsockname()[0]
    return source


def is_ours(address: str) -> bool:
    """Whether this machine has that address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
    return True


def words_of(error: BaseException) -> str:
    """An error of this module or of http.client for a reader: short, without numbers."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _tls_words(error: SSL.Error) -> str:
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    for _, _, reason in reasons:
        if reason:
            return f"TLS: {reason}"
    return "TLS failed"
