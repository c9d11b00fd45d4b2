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


class Writer(Protocol):
    """What may wait with what it has to send until its batch of events is over: a transport, or a
    connection that makes one write of many streams'."""

    def send_unsent(self) -> Exception | None:
        """It is over: send. Returns None, or (a transport only) what ends the connection."""


class Outbox:
    """Where writers leave word that they have something, or want to be closed.

    `transports` is None where nobody would come for it: then they send at once.
    """

    __slots__ = ("transports",)

    def __init__(self) -> None:
        self.transports: list[Writer] | None = None

    def at_the_end(self, writer: Writer) -> None:
        """Let this one send at the end of the batch of events, or now if there is none."""
        if self.transports is None:
            writer.send_unsent()
        else:
            self.transports.append(writer)


class HandshakeOwner(Protocol):
    """Who is told how a TLS handshake ended."""

    def handshake_completed(self) -> None:
        """The handshake is over; the transport now carries plain bytes of ours."""

    def handshake_failed(self, reason: Exception) -> None:
        """It failed; the connection is lost when this returns."""
