"""Pools without sockets: who waits, and how dials end, is said by a test."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from authproxy.deadlines import RESOLUTION, Deadlines
from authproxy.errors import ConnectFailed, UpstreamError
from authproxy.settings import PoolSettings, Timeouts, Upstream
from authproxy.upstream.connection import Connection
from authproxy.upstream.pool import Pool
from authproxy.upstream.server import Server
from authproxy.wire.heads import HeadLimits, RequestHead

from ..transports import FakeTransport, connect

HEAD = RequestHead(b"GET", b"/", 11, [(b"host", b"sso.example.com")], b"sso.example.com")


class Waiter:
    """An exchange as the pool knows it; it is a connection's lessee, too."""

    def __init__(self, whole: bool = True) -> None:
        self.whole = whole
        self.connection: Connection | None = None
        self.error: UpstreamError | None = None
        self.over = False

    def leased(self, connection: Connection) -> None:
        assert self.connection is None and self.error is None
        self.connection = connection
        connection.start(self, HEAD, b"", b"", True)

    def lease_failed(self, error: UpstreamError) -> None:
        assert self.connection is None and self.error is None
        self.error = error

    def end(self) -> None:
        """Upstream answers: the connection is free."""
        assert self.connection is not None
        self.connection.dataReceived(b"HTTP/1.1 204 No Content\r\n\r\n")

    def response_whole(self, head: object, content: bytes) -> None:
        self.over = True

    def response_flush(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was not expected")


class PoolTests(SynchronousTestCase):
    """A pool whose dials are ended by hand."""

    def pool(self, servers: int = 1, **settings: Any) -> Pool:
        self.clock = Clock()
        self.clock.advance(1000)
        self.deadlines = Deadlines(self.clock, self.clock.seconds)
        self.deadlines.start()
        self.dials: list[tuple[Deferred[Connection], Server]] = []
        self.cancelled = 0
        upstreams = tuple(Upstream("http", "tcp", f"10.0.0.{n}", 9000) for n in range(servers))
        return Pool(upstreams, evolve(PoolSettings(), **settings), self.deadlines, self._dial)

    def _dial(self, server: Server) -> Deferred[Connection]:
        dialling: Deferred[Connection] = Deferred(self._cancel)
        self.dials.append((dialling, server))
        return dialling

    def _cancel(self, dialling: Deferred[Connection]) -> None:
        self.cancelled += 1
        dialling.errback(ConnectFailed("cancelled"))

    def dialled(self, index: int = 0) -> Connection:
        dialling, server = self.dials.pop(index)
        connection = Connection(server, self.deadlines, Timeouts(), HeadLimits())
        connect(connection)
        dialling.callback(connection)
        return connection

    def refused(self, index: int = 0) -> UpstreamError:
        error = ConnectFailed("refused")
        self.dials.pop(index)[0].errback(error)
        return error

    def take(self, pool: Pool, fresh: bool = False) -> Waiter:
        waiter = Waiter()
        connection = pool.take(waiter, fresh)
        if connection is not None:
            waiter.leased(connection)
        return waiter

    def served(self, pool: Pool, count: int = 1) -> list[Waiter]:
        """So many leases at once, each on a connection of its own."""
        waiters = [self.take(pool) for _ in range(count)]
        while self.dials:
            self.dialled()
        return waiters

    def idle(self, pool: Pool, count: int = 1) -> list[Connection]:
        """So many idle connections, in the order in which they became idle."""
        waiters = self.served(pool, count)
        for waiter in waiters:
            waiter.end()
        return [waiter.connection for waiter in waiters if waiter.connection is not None]

    def advance(self, seconds: float) -> None:
        self.clock.pump([RESOLUTION] * round(seconds / RESOLUTION))

    def transport(self, connection: Connection) -> FakeTransport:
        transport: Any = connection.transport
        return transport

    def assert_idle(self, pool: Pool, *connections: Connection) -> None:
        self.assertEqual(pool.servers[0].idle, list(connections))

    def hang_up(self, connection: Connection) -> None:
        self.transport(connection).connected = False
        connection.connectionLost(Failure(ConnectionDone()))

    def names(self, waiters: list[Waiter]) -> list[str]:
        """The last digit of each one's server."""
        connections = [waiter.connection for waiter in waiters]
        return [connection.server.upstream.host[-1] for connection in connections if connection]
