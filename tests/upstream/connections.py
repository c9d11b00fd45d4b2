"""Connections to upstream without sockets, a pool or an exchange."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from authproxy.deadlines import RESOLUTION, Deadlines
from authproxy.settings import Timeouts
from authproxy.upstream.connection import Connection
from authproxy.wire import serialise
from authproxy.wire.heads import Fields, HeadLimits, RequestHead, ResponseHead

from ..transports import FakeTransport, connect

LIMITS = HeadLimits(4096, 4096, 20)
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 1.3


class FakeServer:
    """What a connection tells its pool."""

    upstream = "http://authentik.example:9000"

    def __init__(self) -> None:
        self.given_back: list[Connection] = []
        self.forgotten: list[Connection] = []
        self.pool = self

    def give_back(self, connection: Connection) -> None:
        self.given_back.append(connection)

    def forget(self, connection: Connection) -> None:
        self.forgotten.append(connection)


class Lessee:
    """Keeps what it is told; content is joined, so that segments do not show."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.flushed = 0
        self.failure: Exception | None = None

    def _tell(self, *entry: Any) -> None:
        self.told.append(entry)

    def response_informational(self, head: ResponseHead) -> None:
        self._tell("informational", head.status)

    def response_whole(self, head: ResponseHead, content: bytes) -> None:
        """Kept as its parts: most tests need not know in which way it was told."""
        self.response_head(head)
        if content:
            self.response_content(content)
        self.response_end([])

    def response_head(self, head: ResponseHead) -> None:
        self._tell("head", head.status)

    def response_content(self, data: bytes) -> None:
        if self.told[-1][0] == "content":
            data = self.told.pop()[1] + data
        self._tell("content", data)

    def response_end(self, trailers: Fields) -> None:
        self._tell("end", trailers)

    def response_flush(self) -> None:
        self.flushed += 1

    def response_switching(self, head: ResponseHead, early: bytes) -> None:
        self._tell("switching", early)

    def upstream_failed(self, error: Exception) -> None:
        self.failure = error
        self._tell("failed", type(error))

    def pause_request(self) -> None:
        self._tell("pause")

    def resume_request(self) -> None:
        self._tell("resume")


def head(method: bytes = b"GET", length: int = 0, upgrade: bool = False) -> RequestHead:
    """A request head as forwarding makes it."""
    fields: Fields = [(b"host", b"sso.example.com")]
    if upgrade:
        fields.append((b"sec-websocket-key", KEY))
    return RequestHead(method, b"/", 11, fields, b"sso.example.com", length, upgrade=upgrade)


class ConnectionTests(SynchronousTestCase):
    """A connection on a fake transport: a test is upstream, and sees what the lessee is told."""

    def setUp(self) -> None:
        self.connect()

    def connect(self) -> None:
        """A new connection and a new lessee."""
        self.clock = Clock()
        self.clock.advance(1000)
        self.deadlines = Deadlines(self.clock, self.clock.seconds)
        self.deadlines.start()
        self.lessee = Lessee()
        self.server = FakeServer()
        self.connection = Connection(
            self.server,
            self.deadlines,
            Timeouts(),
            LIMITS,
            1234,  # type: ignore[arg-type]
        )
        self.transport: FakeTransport = connect(self.connection)

    def start(self, method: bytes = b"GET") -> None:
        self.send(head(method), b"", True)

    def send(self, sent: RequestHead, content: bytes, ended: bool, trailers: Fields = []) -> None:  # noqa: B006
        fields = serialise.section(sent.fields)
        self.connection.start(self.lessee, sent, fields, content, ended, trailers)

    def say(self, data: bytes) -> None:
        self.connection.dataReceived(data)

    def lose(self, error: Exception) -> None:
        self.transport.connected = False
        self.connection.connectionLost(Failure(error))

    def advance(self, seconds: float) -> None:
        self.clock.pump([RESOLUTION] * round(seconds / RESOLUTION))

    def assert_gone(self) -> None:
        """It was never given back, and nothing of it is left in the pool or among deadlines."""
        self.assertEqual(self.server.given_back, [])
        self.assertIn(self.connection, self.server.forgotten)
        self.assertEqual(len(self.deadlines), 0)
