"""Owns a WebSocket inside an HTTP/2 stream (RFC 8441): a stream with the face of a transport.

It has of transport.stream.Stream what relay.py uses, so that a relay does not know the difference.
END_STREAM is the FIN of this connection, RST_STREAM its reset.

Chromium sends END_STREAM with its Close frame, and still reads the answer to that. So the client's
end waits for upstream's, for timeouts.relay_flush at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from ..deadlines import NEVER

if TYPE_CHECKING:
    from .http2_stream import Stream


class Tunnel:
    """The client's side of a relay, once it has a `protocol`."""

    __slots__ = (
        "_ended",
        "_finished",
        "_held",
        "_producer",
        "_stopped",
        "_stream",
        "connected",
        "deadline",
        "protocol",
    )

    def __init__(self, stream: Stream) -> None:
        self.connected = True
        self.deadline = NEVER
        self.protocol: Any = None
        self._stream = stream
        self._producer: Any = None
        self._held = b""  # bounded by the stream's window, which is not opened meanwhile
        self._stopped = True  # until the relay begins
        self._ended = False  # the client sends no more
        self._finished = False  # nor do we

    # What the stream says.

    @property
    def stopped(self) -> bool:
        """Whether the relay takes no more for now."""
        return self._stopped

    def receive(self, data: bytes, ended: bool) -> None:
        """Octets of the client's; perhaps the last."""
        if ended:
            self._ended = True
        if self._stopped:
            self._held += data
        else:
            if data:
                self.protocol.dataReceived(data)
            self._perhaps_over()

    def pause_upstream(self) -> None:
        """The client takes no more."""
        if self._producer is not None:
            self._producer.pauseProducing()

    def resume_upstream(self) -> None:
        """It takes more again."""
        if self._producer is not None:
            self._producer.resumeProducing()

    def lost(self) -> None:
        """The stream is over."""
        if self.connected:
            self.connected = False
            self.deadline = NEVER
            self._stream.gateway.deadlines.discard(self)
            if self.protocol is not None:
                self.protocol.connectionLost(Failure(ConnectionDone()))

    def _perhaps_over(self) -> None:
        if self._ended and self.connected and self.deadline == NEVER:
            gateway = self._stream.gateway
            self.deadline = gateway.now() + gateway.timeouts.relay_flush
            gateway.deadlines.add(self)

    def deadline_passed(self, now: float) -> None:
        """The client has ended, and upstream does not."""
        self._finish()
        self.lost()

    def _finish(self) -> None:
        if not self._finished:
            self._finished = True
            self._stream.send_end([])

    # What a relay asks of a transport.

    def write(self, data: bytes) -> None:
        """Send."""
        if self.connected and not self._finished:
            self._stream.send_content(data)
            self._stream.flush()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Whom to pause while the client takes no more."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Nobody."""
        self._producer = None

    def pauseProducing(self) -> None:
        """Upstream takes no more: hold what comes, and do not acknowledge it."""
        self._stopped = True

    def resumeProducing(self) -> None:
        """It does again."""
        self._stopped = False
        held, self._held = self._held, b""
        if held and self.connected:
            self.protocol.dataReceived(held)
        if not self._stopped:
            self._stream.taken()
            self._perhaps_over()

    def stopProducing(self) -> None:
        """Whom we feed is gone: how we end is for the relay to say."""

    def loseWriteConnection(self) -> None:
        """END_STREAM, after everything that was written."""
        if self.connected:
            self._finish()
            self.resumeProducing()  # for the client's end; its input is the relay's to discard

    def loseConnection(self) -> None:
        """The same, and do not wait for the client's."""
        if self.connected:
            self._finish()
            self._stream.close_tunnel()

    def abortConnection(self) -> None:
        """A reset."""
        if self.connected:
            self._stream.reset(ErrorCodes.CANCEL)
            self.lost()

    @property
    def buffered(self) -> int:
        """Octets written that have not gone to the connection."""
        return self._stream.pending

    outstanding = buffered

    def enable_keepalive(self) -> None:
        """The stream's connection is probed instead."""
        self._stream.enable_keepalive()
