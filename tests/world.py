"""A whole proxy without sockets: clients, gateway, pool and upstream servers on fake transports.

Tests are written as conversations: what the client says, what upstream sees, what upstream says,
what the client sees.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from authproxy.deadlines import RESOLUTION, Deadlines
from authproxy.downstream.http1 import Connection as Downstream
from authproxy.gateway import Gateway, Site
from authproxy.settings import Settings
from authproxy.trust import Client
from authproxy.upstream.connection import Connection as Upstream
from authproxy.upstream.pool import Pool
from authproxy.upstream.server import Server
from authproxy.wire.heads import HeadLimits, RequestHead

from .transports import FakeTransport, connect


class Lines:
    """An access log that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def line(
        self,
        head: RequestHead,
        client: Client,
        status: int,
        sent: int,
        duration: float,
        upstream: str,
        request_id: str,
    ) -> None:
        self.lines.append(
            (
                client.address, head.method, head.target, head.version, client.host, status, sent,
                duration, head.get(b"referer"), head.get(b"user-agent"), upstream, request_id,
                client.scheme,
            )
        )  # fmt: skip

    @property
    def statuses(self) -> list[int]:
        return [entry[5] for entry in self.lines]


class FakeOpening:
    """What an HTTP connection knows of how it was opened."""

    def __init__(self, peer: str, secure: bool) -> None:
        self.peer = peer
        self.nameless = False
        self.secure = secure
        self.is_proven = False
        self.tunnels = 0
        self.most_tunnels = 10

    def proven(self) -> None:
        self.is_proven = True

    def begin_tunnel(self) -> bool:
        if self.tunnels >= self.most_tunnels:
            return False
        self.tunnels += 1
        return True

    def end_tunnel(self) -> None:
        self.tunnels -= 1


class World:
    """One site on fake transports.

    `origins` are the transports of upstream connections, in the order in which they were dialled;
    `dial_by_hand` leaves dials open in `dials` until a test ends them.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        hosts: tuple[str, ...] = (),
        hsts: bytes | None = None,
        append: bool = False,
    ) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.settings = settings
        self.deadlines = Deadlines(self.clock, self.clock.seconds)
        self.deadlines.start()
        self.access = Lines()
        self.origins: list[FakeTransport] = []
        self.dials: list[tuple[Deferred[Upstream], Server]] = []
        self.dial_by_hand = False
        self.pool = Pool(settings.sites[0].upstreams, settings.pool, self.deadlines, self._dial)
        self.site = Site(hosts, self.pool, hsts=hsts, append=append)
        self.gateway = Gateway(settings, [self.site], self.deadlines, self.access)  # type: ignore[arg-type]

    def _dial(self, server: Server) -> Deferred[Upstream]:
        result: Deferred[Upstream] = Deferred()
        self.dials.append((result, server))
        if not self.dial_by_hand:
            self.dialled()
        return result

    def dialled(self) -> FakeTransport:
        """The oldest open dial succeeds."""
        result, server = self.dials.pop(0)
        limits = self.settings.limits
        connection = Upstream(
            server,
            self.deadlines,
            self.settings.timeouts,
            HeadLimits(limits.upstream_head_bytes, limits.upstream_head_bytes, 200),
        )
        transport = connect(connection)
        self.origins.append(transport)
        result.callback(connection)
        return transport

    def client(self, peer: str = "198.51.100.7", secure: bool = True) -> FakeTransport:
        """A client connects."""
        self.opening = FakeOpening(peer, secure)
        return connect(Downstream(self.gateway, self.opening))  # type: ignore[arg-type]

    def advance(self, seconds: float) -> None:
        """Time passes, deadline by deadline."""
        self.clock.pump([RESOLUTION] * round(seconds / RESOLUTION))


def say(transport: FakeTransport, data: bytes) -> None:
    """The peer of this transport sends."""
    transport.protocol.dataReceived(data)


def get(path: bytes = b"/", *fields: bytes, method: bytes = b"GET") -> bytes:
    """A request head."""
    return b"\r\n".join(
        [method + b" " + path + b" HTTP/1.1", b"Host: sso.example.com", *fields, b"", b""]
    )


def fields_of(head: bytes) -> list[tuple[bytes, bytes]]:
    """The (name, value) pairs of a head as it went over the wire."""
    lines = head.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
