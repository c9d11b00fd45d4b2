"""Doubles of what the transport layer gives protocols."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from authproxy.transport.interfaces import Outbox


class FakeTransport(StringTransport):
    """A StringTransport that also has what our streams have beyond Twisted's.

    `ended` is how the protocol asked to end the connection: "", "lose", "half" or "abort".
    """

    bufferSize = 65536
    negotiatedProtocol = None

    def __init__(self) -> None:
        super().__init__()
        self.buffered = 0
        self.ended = ""
        self.keepalive = False
        self.paused = False
        self.connected = True
        self.protocol: Any = None
        self.closed: Callable[[], None] | None = None
        self.reactor = SimpleNamespace(outbox=Outbox())

    @property
    def outstanding(self) -> int:
        """As if the kernel held nothing."""
        return self.buffered

    def getHandle(self) -> Any:
        """A socket on which nothing waits."""

        class Quiet:
            def recv(self, *args: object) -> bytes:
                raise BlockingIOError

        return Quiet()

    def enable_keepalive(self) -> None:
        self.keepalive = True

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def loseConnection(self) -> None:
        self.ended = self.ended or "lose"

    def loseWriteConnection(self) -> None:
        self.ended = self.ended or "half"

    def abortConnection(self) -> None:
        self.ended = "abort"

    def unregisterProducer(self) -> None:
        self.producer = None  # as FileDescriptor's: no error where there is none

    def take(self) -> bytes:
        """What was written since the last call."""
        data: bytes = self.value()
        self.clear()
        return data

    def finish(self) -> None:
        """Tell the protocol that the connection is over, in the way it asked for."""
        self.connected = False
        error = ConnectionAborted() if self.ended == "abort" else ConnectionDone()
        self.protocol.connectionLost(Failure(error))


def connect(protocol: Any) -> FakeTransport:
    """Give the protocol a transport."""
    transport = FakeTransport()
    transport.protocol = protocol
    protocol.makeConnection(transport)
    return transport
