"""The shapes that the transport layer's parts know each other by."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.python.failure import Failure


class Descriptor(Protocol):
    """What a dispatcher delivers events to: Twisted's IReadWriteDescriptor."""

    def fileno(self) -> int:
        """The descriptor, or -1 once it is closed."""

    def doRead(self) -> Any:
        """Readable. Returns None, or the exception that ends the connection."""

    def doWrite(self) -> Any:
        """Writable. Returns None, or the exception that ends the connection."""

    def readConnectionLost(self, reason: Failure) -> None:
        """The peer will send no more."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is over."""


class Writer(Descriptor, Protocol):
    """A transport that may wait with what was written to it until its batch of events is over."""

    def send_unsent(self) -> Exception | None:
        """It is over: send. Returns None, or what ends the connection."""


class Outbox:
    """Where transports leave word that they wrote, or want to be closed.

    `transports` is None where nobody would come for it: then they send at once.
    """

    __slots__ = ("transports",)

    def __init__(self) -> None:
        self.transports: list[Writer] | None = None


class HandshakeOwner(Protocol):
    """Who is told how a TLS handshake ended."""

    def handshake_completed(self) -> None:
        """The handshake is over; the transport now carries plain bytes of ours."""

    def handshake_failed(self, reason: Exception) -> None:
        """It failed; the connection is lost when this returns."""
