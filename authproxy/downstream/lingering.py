"""Owns a client's connection after an answer that came before the request was read to its end.

The write side is closed and input discarded for a moment: closing with unread input would reset the
connection, and the client would lose the answer (RFC 9112 9.6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet import protocol
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from ..gateway import Gateway
    from ..transport.stream import Stream


class Lingering(protocol.Protocol):
    """Takes the transport over; nothing more is asked of who had it."""

    transport: Stream

    def __init__(self, gateway: Gateway, transport: Stream) -> None:
        self._gateway = gateway
        self._discarded = 0
        self._closing = False
        self.deadline = gateway.now() + gateway.timeouts.linger
        gateway.connections.add(self)
        gateway.deadlines.add(self)
        transport.protocol = self
        self.makeConnection(transport)
        transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        """Discard it, up to a bound."""
        self._discarded += len(data)
        if self._discarded > self._gateway.limits.linger_bytes and not self._closing:
            self._close()

    def deadline_passed(self, now: float) -> None:
        """It was long enough; or, the second time, the client does not even take the answer."""
        if self._closing:
            self.transport.abortConnection()
        else:
            self._close()

    def drain(self) -> None:
        """It closes soon by itself."""

    def settings_changed(self) -> None:
        """No request begins here any more."""

    def _close(self) -> None:
        self._closing = True
        self.deadline = self._gateway.now() + self._gateway.timeouts.write_stall
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """The client closed, or we did."""
        self._gateway.deadlines.discard(self)
        self._gateway.connections.discard(self)
