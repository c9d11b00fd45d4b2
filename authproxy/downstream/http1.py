r"""Owns one HTTP/1.x connection from a client (RFC 9112): reads requests, writes responses.

One request at a time; what a client sends ahead is held, bounded, and answered in order. The state
is `_receive`, the bound method that takes the next bytes:

    _receive_head  ->  a RequestContent's  ->  _receive_early  ->  _receive_head ...
                                           \->  _receive_nothing, or a Lingering takes over

Knows persistence and deadlines. Content and its deadlines are content.py's, responses and their
framing responses.py's; what a request means is the exchange's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet import protocol
from twisted.python.failure import Failure

from .. import trust
from ..deadlines import NEVER
from ..exchange import Exchange
from ..relay import Relay
from ..wire.errors import ProtocolError
from ..wire.heads import RequestHead
from ..wire.incomplete import Incomplete
from ..wire.requests import parse_request, refuse_early
from .content import RequestContent
from .lingering import Lingering
from .pace import AT_ONCE, Uptake
from .responses import Responses

if TYPE_CHECKING:
    from ..gateway import Gateway
    from ..transport.opening import Opening
    from ..transport.stream import Stream


class Connection(protocol.Protocol):
    """A client's connection. `opening` says who the peer is and whether TLS is there."""

    transport: Stream

    def __init__(self, gateway: Gateway, opening: Opening) -> None:
        self.deadline = NEVER
        self._gateway = gateway
        self._opening = opening
        self.head: RequestHead | None = None
        self.settings_changed()
        self._receive = self._next = self._receive_head  # made once, compared several times
        self._held = b""
        self._incomplete: Incomplete | None = None  # a head that has begun; what is held comes next
        self.exchange: Exchange | None = None
        self.content: RequestContent | None = None  # more of it is to come
        self.request_ended = True
        self._serving = False
        self.last = False  # this response is the connection's last
        self.blocked = self.stopped = False  # the client, or we, take no more for now
        self._requests = 0
        self._expires = gateway.now() + gateway.timeouts.connection_age
        self._uptake = Uptake(gateway.limits, gateway.timeouts)
        self._responses = Responses(gateway, self)

    def settings_changed(self) -> None:
        """The next request is looked at anew: nothing of one before says what it means now."""
        self._client = self._peer = self._gateway.client_of(self._opening)
        if self.head is not None:
            self.head.section = b""

    def __repr__(self) -> str:
        state = self._receive.__name__.lstrip("_").removeprefix("receive_")
        return f"<{type(self).__name__} {self._opening.peer} {state} requests={self._requests}>"

    def connectionMade(self) -> None:
        """Open, and TLS where it belongs."""
        gateway = self._gateway
        gateway.connections.add(self)
        gateway.deadlines.add(self)
        # One that was still in its handshake when the drain began must not hold it up.
        timeouts = gateway.timeouts
        self.deadline = gateway.now() + (timeouts.linger if gateway.draining else timeouts.head)
        self.transport.bufferSize = gateway.limits.buffer
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the client."""
        self._receive(data)

    # Requests.

    def _receive_head(self, data: bytes) -> None:
        self._held = self._held + data if self._held else data
        self._serve()
        if self.blocked and self._receive is self._next:
            self._receive_early(b"")  # nothing begins for who takes no answers: the same bound

    def _serve(self) -> None:
        """Begin what is held, request after request. Answers made at once come back here while
        the loop runs, so pipelining never recurses."""
        if self._serving:
            return
        self._serving = True
        turn = AT_ONCE
        try:
            while self._held and self._receive is self._next and not self.blocked:
                if not turn:
                    self._receive = self._receive_early  # which bounds what comes meanwhile
                    self._gateway.deadlines.next_turn(self._go_on, self.transport.abortConnection)
                    break
                turn -= 1
                limits = self._gateway.head_limits
                if self._incomplete is not None:
                    self._held = self._incomplete.more(self._held)
                    if not self._held:
                        break
                    self._incomplete = None
                parsed = parse_request(self._held, limits, self.head)
                if parsed is None:
                    # Absolute from the head's first octet: drips do not move it.
                    self.deadline = self._gateway.now() + self._gateway.timeouts.head
                    self._incomplete = Incomplete(self._held, limits, refuse_early)
                    self._held = b""
                    break
                head, consumed = parsed
                self._held = self._held[consumed:]
                self._begin(head)
        except ProtocolError as e:
            self._refuse(e)
        finally:
            self._serving = False

    def _go_on(self) -> None:
        """Others had their turn."""
        if self._receive == self._receive_early and self.exchange is None:
            self._receive = self._next
            self._resume_input()
            self._serve()

    def _begin(self, head: RequestHead) -> None:
        gateway = self._gateway
        now = gateway.now()
        self._requests += 1
        before, self.head = self.head, head
        self.last = (
            not head.keep_alive
            or gateway.draining
            or self._requests >= gateway.limits.requests_per_connection
            or now >= self._expires
        )
        if before is None or head.fields is not before.fields:  # else the same says the same
            self._client = trust.identify(head, self._peer, gateway.networks)
        exchange = self.exchange = Exchange(gateway, self._responses, head, self._client, now)
        if head.length == 0:
            self.request_ended = True
            self._receive = self._receive_early
            self.deadline = NEVER
            exchange.begin()
            return
        self.request_ended = False
        content = self.content = RequestContent(gateway, self, exchange, head, now)
        self._receive = content.receive_content
        exchange.begin()
        if self._held and self.exchange is exchange:
            data, self._held = self._held, b""
            content.receive_content(data)

    def content_ended(self, rest: bytes) -> None:
        """Its content is complete. `rest` came after it."""
        self.content = None
        self._held = rest
        self.request_ended = True
        self._receive = self._receive_early
        if not self.blocked:
            self.deadline = NEVER

    def refuse_content(self, error: ProtocolError) -> None:
        """No more of it is read."""
        assert self.exchange is not None
        self.last = True
        self.exchange.refuse(error)

    def _receive_early(self, data: bytes) -> None:
        """The next request, while this one is not answered."""
        self._held += data
        if len(self._held) > self._gateway.limits.pipelined_bytes and not self.stopped:
            self.stopped = True
            self.transport.pauseProducing()

    def _refuse(self, error: ProtocolError) -> None:
        """What came is no request: say so and close."""
        self.last = True
        self.request_ended = False  # more of it may be on its way: linger
        self._responses.send_whole(*self._gateway.refusal(self._peer, error))

    # Responses, and what an exchange says of reading.

    def response_ended(self, data: bytes) -> None:
        """This is the rest of it: on to the next request, or to the end."""
        self.transport.write(data)
        self.exchange = None
        if self._requests == 1:
            self._opening.proven()
        if not self.last:
            self._receive = self._next
            if not self.blocked:  # else the write stall's runs
                self.deadline = self._gateway.now() + self._gateway.timeouts.keepalive
            if self.stopped:
                self._resume_input()
            if self._held:
                self._serve()
        elif self.request_ended and not self._held:
            self._close()
        else:
            self._linger()

    def abort(self) -> None:
        """Cut the response: a reset, where a clean end would look like a whole response."""
        self.exchange = None
        self._leave()
        self.transport.abortConnection()

    def pause_reading(self) -> None:
        """Upstream takes no more of the request."""
        if self.content is not None and not self.stopped:
            self.stopped = True
            if not self.blocked:  # else the write stall's runs: upstream may wait for that
                self.deadline = NEVER  # it is not the client who is slow
            self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """It takes more again; the client's rate is measured from here."""
        if self.content is not None and self.stopped:
            self.content.go_on()
            self._resume_input()

    def _resume_input(self) -> None:
        if self.stopped:
            self.stopped = False
            self.transport.resumeProducing()

    def switch(self, upstream: Stream) -> None:
        """The 101 was written: bytes both ways from here."""
        exchange, self.exchange = self.exchange, None
        assert exchange is not None
        self._opening.proven()
        held, self._held = self._held, b""
        self._leave()
        self._next = self._receive  # no bound method of ours: no reference cycle stays
        del self._responses
        Relay(self._gateway, exchange, self.transport, upstream, held)

    # Backpressure: we are the producer that the client's transport pauses.

    def pauseProducing(self) -> None:
        """The client does not take what we write."""
        self.blocked = True
        self.deadline = self._uptake.restart(self.transport.outstanding, self._gateway.now())
        if self.exchange is not None:
            self.exchange.pause_response()

    def resumeProducing(self) -> None:
        """It took everything."""
        self.blocked = False
        self.deadline = NEVER
        if self.exchange is not None:
            if self.content is not None and not self.stopped:
                self.deadline = self._gateway.now() + self._gateway.timeouts.body_idle
            self.exchange.resume_response()
        elif self._receive is self._next:
            timeouts = self._gateway.timeouts
            wait = timeouts.keepalive if self._incomplete is None else timeouts.head
            self.deadline = self._gateway.now() + wait
            self._resume_input()
            self._serve()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""

    # The end.

    def deadline_passed(self, now: float) -> None:
        """The client is too slow, or idle for long enough."""
        if self.blocked or self._receive == self._receive_nothing:
            self._stalled(now)
        elif self.content is not None:
            self.deadline = NEVER
            self.refuse_content(
                ProtocolError(408, "the request body stopped", "timeouts.body_idle")
            )
        elif self._receive is self._next and self._incomplete is not None:
            self._refuse(ProtocolError(408, "the request head was not complete in time"))
        else:
            self._close()

    def _stalled(self, now: float) -> None:
        """Nothing, or less than the minimum rate, was taken since the deadline was set."""
        outstanding = self.transport.outstanding
        if not self._uptake.too_little(outstanding):
            self.deadline = self._uptake.restart(outstanding, now)
            return
        self._gateway.count_refused("the client did not read its response")
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.cancel()
        self.abort()

    def drain(self) -> None:
        """Close as soon as no request runs."""
        self.last = True
        idle = self._receive is self._next and self._incomplete is None
        if idle and self._requests:
            self._close()
        elif idle:  # it was opened for a request, which is on its way
            self.deadline = self._gateway.now() + self._gateway.timeouts.linger

    def _linger(self) -> None:
        """More of the request may be on its way."""
        self._leave()
        self._resume_input()
        Lingering(self._gateway, self.transport)

    def _close(self) -> None:
        self._receive = self._receive_nothing
        self.blocked = False
        self.deadline = self._uptake.restart(self.transport.outstanding, self._gateway.now())
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    @staticmethod
    def _receive_nothing(data: bytes) -> None:
        pass

    def _leave(self) -> None:
        self._receive = self._receive_nothing
        self.content = None
        self.deadline = NEVER
        self._gateway.deadlines.discard(self)
        self._gateway.connections.discard(self)
        self.transport.unregisterProducer()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """The client is gone."""
        exchange, self.exchange = self.exchange, None
        self._leave()
        if exchange is not None:
            exchange.cancel()
