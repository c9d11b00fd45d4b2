"""Owns an epoll loop over non-blocking sockets, with TLS or without: of our origin and our load.

Made to cost little: one read and one write an event, no copies of what is only counted.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

BUFFER = 65536
TIMEOUT = 60.0  # seconds, for what blocks: connecting, the handshake
AT_ONCE = 4  # connections that are opened at the same time


class Ended(OSError):
    """The peer closed the connection, or it broke."""


class Connection:
    """One socket of a loop. `received` gets each piece; the memory is the loop's, valid until it
    returns. Raises Ended from there or calls `ended`, as the owner likes."""

    __slots__ = ("_asking", "_loop", "_out", "ended", "received", "sock")

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        self.sock = sock
        self.received: Callable[[memoryview], None] = lambda data: None
        self.ended: Callable[[], None] = _raise_ended
        self._loop = loop
        self._out = memoryview(b"")
        self._asking = False
        sock.setblocking(False)
        loop.add(self)

    def send(self, data: bytes) -> None:
        """Send all of it, now and as the peer takes it."""
        assert not self._out, "the owner sends one thing after the other"
        self._out = memoryview(data)
        self.flush()

    def flush(self) -> None:
        """Send what waits."""
        try:
            while self._out:
                self._out = self._out[self.sock.send(self._out) :]
        except (ssl.SSLWantWriteError, BlockingIOError):
            if not self._asking:
                self._asking = True
                self._loop.ask(self, True)
            return
        except OSError:
            self.lost()
            return
        if self._asking:
            self._asking = False
            self._loop.ask(self, False)

    def lost(self) -> None:
        """It is over."""
        self._loop.remove(self)
        self.ended()


class Loop:
    """Delivers what comes to its connections."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._buffer = memoryview(bytearray(BUFFER))
        self._listeners: dict[int, Callable[[], None]] = {}

    def listen(self, sock: socket.socket, accept: Callable[[], None]) -> None:
        """Call this when somebody connects."""
        self._listeners[sock.fileno()] = accept
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def add(self, connection: Connection) -> None:
        fd = connection.sock.fileno()
        self._connections[fd] = connection
        self._epoll.register(fd, select.EPOLLIN)

    def ask(self, connection: Connection, writing: bool) -> None:
        """Wait also for room to write, or no more."""
        mask = select.EPOLLIN | select.EPOLLOUT if writing else select.EPOLLIN
        self._epoll.modify(connection.sock.fileno(), mask)

    def remove(self, connection: Connection) -> None:
        fd = connection.sock.fileno()
        if self._connections.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            connection.sock.close()

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self._connections.values()):
            self.remove(connection)
        self._epoll.close()

    def turn(self, timeout: float) -> None:
        """Wait so many seconds at most, and deliver what came."""
        for fd, event in self._epoll.poll(timeout):
            connection = self._connections.get(fd)
            if connection is None:
                if fd in self._listeners:
                    self._listeners[fd]()
                continue
            if event & select.EPOLLOUT:
                connection.flush()
            if event & ~select.EPOLLOUT:
                self._read(connection)

    def wait(self, timeout: float) -> None:
        """Until something came or the time is over; as fine as the kernel's timers."""
        select.select([self._epoll.fileno()], [], [], max(timeout, 0.0))

    def run(self, seconds: float) -> None:
        """Deliver for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.turn(left)

    def _read(self, connection: Connection) -> None:
        sock = connection.sock
        try:
            # One record of TLS, never more: none stays behind in OpenSSL, unseen by epoll.
            count = sock.recv_into(self._buffer)
        except (ssl.SSLWantReadError, BlockingIOError):
            return
        except OSError:
            count = 0
        if count:
            connection.received(self._buffer[:count])
        else:
            connection.lost()


def _raise_ended() -> None:
    raise Ended("a connection ended before its time")


def client_context() -> ssl.SSLContext:
    """For clients: TLS 1.3, nothing verified, HTTP/1.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    return context


def connect(port: int, context: ssl.SSLContext | None) -> socket.socket:
    """A blocking connection to a port of this machine."""
    sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is None:
        return sock
    return context.wrap_socket(sock, server_hostname="localhost")


def open_many(
    count: int, port: int, context: ssl.SSLContext | None, greet: Callable[[socket.socket], None]
) -> list[socket.socket]:
    """So many connections, each of which has had its first conversation, `greet`."""

    def one(port: int, _: int) -> socket.socket:
        sock = connect(port, context)
        greet(sock)
        return sock

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(partial(one, port), range(count)))
