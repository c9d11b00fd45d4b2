"""Small requests over TLS on many keep-alive connections, by a plan: in turn, or at a rate.

wrk keeps every connection busy all the time. Here the number of requests in flight and the number
of open connections are two numbers.
"""

from __future__ import annotations

import random
import socket
import time
from collections import deque

from ..sockets import Connection, Loop, client_context, open_many
from . import LoadError

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: benchmark\r\n\r\n"
SEED = 20  # the same arrivals for every proxy


class Clients:
    """Open connections; each has had an answer. They can become more."""

    def __init__(self, port: int) -> None:
        self.loop = Loop()
        self._port = port
        self._context = client_context()
        self._answer = 0  # octets of an answer, head and content
        self._idle: deque[_Client] = deque()
        self._waiting: deque[float] = deque()  # when those were due that found no idle connection
        self._count = 0
        self._running = False
        self._latencies: list[float] = []

    def grow(self, count: int) -> None:
        """Open more, until there are so many."""
        for sock in open_many(count - self._count, self._port, self._context, self._greet):
            self._idle.append(_Client(self, Connection(self.loop, sock), self._answer))
        self._count = count

    def close(self) -> None:
        self.loop.close()

    def in_turn(self, at_once: int, seconds: float) -> int:
        """Requests on all connections in turn, so many in flight. Returns the number of answers."""
        self._running = True
        self._latencies.clear()
        for _ in range(at_once):
            self._next(time.perf_counter())
        self.loop.run(seconds)
        self._running = False
        done = len(self._latencies)
        self._drain()
        return done

    def at_rate(self, rate: float, seconds: float) -> list[float]:
        """Requests that come as those of independent clients do, at so many a second.

        Returns the seconds that each took, from the moment it was to be sent: one that waits for a
        free connection, or for us, waits.
        """
        arrivals = random.Random(SEED)  # noqa: S311
        self._latencies.clear()
        due = time.perf_counter()
        end = due + seconds
        while due < end:
            now = time.perf_counter()
            while due <= now and due < end:
                self._next(due)
                due += arrivals.expovariate(rate)
            self.loop.wait(due - time.perf_counter())
            self.loop.turn(0)
        self._drain()
        return list(self._latencies)

    def _next(self, due: float) -> None:
        if self._idle:
            self._idle.popleft().ask(due)
        else:
            self._waiting.append(due)

    def _drain(self) -> None:
        end = time.monotonic() + 10
        while len(self._idle) < self._count or self._waiting:
            self.loop.turn(1)
            if time.monotonic() > end:
                raise LoadError(f"{self._count - len(self._idle)} requests got no answer")

    def answered(self, client: _Client, latency: float) -> None:
        """What a connection says when its answer is complete."""
        self._latencies.append(latency)
        self._idle.append(client)
        if self._waiting:
            self._next(self._waiting.popleft())
        elif self._running:
            self._next(time.perf_counter())

    def _greet(self, sock: socket.socket) -> None:
        sock.sendall(REQUEST)
        data = b""
        while not data.endswith(b"x" * 100):
            piece = sock.recv(65536)
            if not piece:
                raise LoadError(f"not the answer: {data!r}")
            data += piece
        if not data.startswith(b"HTTP/1.1 200 "):
            raise LoadError(f"not the answer: {data!r}")
        self._answer = len(data)


class _Client:
    __slots__ = ("_clients", "_connection", "_due", "_left", "_octets")

    def __init__(self, clients: Clients, connection: Connection, octets: int) -> None:
        self._clients = clients
        self._connection = connection
        self._octets = self._left = octets
        self._due = 0.0
        connection.received = self._received

    def ask(self, due: float) -> None:
        self._due = due
        self._connection.send(REQUEST)

    def _received(self, data: memoryview) -> None:
        if self._left == self._octets and data[:13] != b"HTTP/1.1 200 "[: len(data)]:
            raise LoadError(f"not the answer: {bytes(data[:200])!r}")
        self._left -= len(data)
        if self._left < 0:
            raise LoadError("more came than was asked for")
        if not self._left:
            self._left = self._octets
            self._clients.answered(self, time.perf_counter() - self._due)
