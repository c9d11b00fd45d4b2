"""Owns what happens after a 101: bytes both ways, unread, until one side is done.

Each side is the other's producer, so what is buffered per direction is bounded by the transport's
buffer (limits.buffer) and one read. TCP's half-close is not relayed: the end of one side flushes
the other and closes it, for a TLS side with close_notify. A side that still sends is listened to
until it has taken what was flushed: a close with unread input is a reset, which takes it away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet import protocol
from twisted.python.failure import Failure

from .deadlines import NEVER, Deadlines
from .sitecounts import websocket_path

if TYPE_CHECKING:
    from .exchange import Exchange
    from .gateway import Gateway
    from .transport.stream import Stream


class Side(protocol.Protocol):
    """One of the two connections: what it receives goes to `other`."""

    transport: Stream
    other: Stream

    def __init__(self, relay: Relay, transport: Stream) -> None:
        self.relay = relay
        self.octets = 0
        self.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """Pass it on."""
        if self.relay.closing:
            return
        self.octets += len(data)
        self.relay.moved()
        self.other.write(data)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """This side is over."""
        self.relay.side_lost(self)


class Relay:
    """Two connections joined.

    `early` bytes of each side (what came before the 101 was through) go first. `exchange` hears of
    the end through the gateway: its access line is written then. `closing` says that no more is
    relayed, only flushed. `path` is how its kind is called in `counts`.
    """

    def __init__(
        self,
        gateway: Gateway,
        exchange: Exchange,
        downstream: Stream,
        upstream: Stream,
        early_request: bytes,
    ) -> None:
        self._gateway = gateway
        self._exchange = exchange
        self._deadlines: Deadlines = gateway.deadlines
        self._idle = gateway.timeouts.relay_idle
        self.closing = False
        self._flush_until = NEVER
        self._finished = False
        self.path = websocket_path(exchange.head.target)
        assert exchange.site is not None
        self.counts = exchange.site.counts
        self.counts.websockets[self.path] += 1
        self.deadline = self._deadlines.now() + self._idle
        self.downstream = Side(self, downstream)
        self.upstream = Side(self, upstream)
        self.downstream.other, self.upstream.other = upstream, downstream
        gateway.relays.add(self)
        self._deadlines.add(self)
        for transport, side in ((downstream, self.downstream), (upstream, self.upstream)):
            transport.protocol = side
            transport.enable_keepalive()
            transport.registerProducer(side.other, True)
        if early_request:
            self.downstream.dataReceived(early_request)
        downstream.resumeProducing()
        upstream.resumeProducing()

    @property
    def received(self) -> int:
        """Octets that came from the client."""
        return self.downstream.octets

    @property
    def sent(self) -> int:
        """Octets for the client."""
        return self._exchange.sent + self.upstream.octets

    def moved(self) -> None:
        """Something passed."""
        self.deadline = self._deadlines.now() + self._idle

    def side_lost(self, side: Side) -> None:
        """One side is over: flush the other and close it."""
        if not self.closing:
            self.close()
        other = self.upstream if side is self.downstream else self.downstream
        if not other.transport.connected:
            self._finish()

    def close(self) -> None:
        """Flush both sides and close them; what is not gone after relay_flush is dropped."""
        if self.closing:
            return
        self.closing = True
        now, timeouts = self._deadlines.now(), self._gateway.timeouts
        self._flush_until = now + timeouts.relay_flush
        self.deadline = min(now + timeouts.linger, self._flush_until)
        for side in (self.downstream, self.upstream):
            if side.transport.connected:
                side.transport.unregisterProducer()
                side.transport.pauseProducing()  # until it is flushed
                side.transport.loseWriteConnection()

    def deadline_passed(self, now: float) -> None:
        """Idle for too long; or closing, and a side has not closed."""
        if not self.closing:
            self.close()
            return
        over = now >= self._flush_until
        linger = self._gateway.timeouts.linger
        self.deadline = NEVER if over else min(now + linger, self._flush_until)
        for transport in (self.downstream.transport, self.upstream.transport):
            if not transport.connected:
                continue
            if over and transport.buffered:
                transport.abortConnection()  # the last octets do not go out
            elif over or not transport.outstanding:
                transport.loseConnection()

    def _finish(self) -> None:
        if self._finished:
            return
        self._finished = True
        self._deadlines.discard(self)
        self._gateway.relays.discard(self)
        self.counts.websocket_received += self.received
        self.counts.websocket_sent += self.sent
        self._exchange.sent += self.upstream.octets
        self._gateway.finished(self._exchange)
