r"""Owns one HTTP/1.x connection from a client (RFC 9112): reads requests, writes responses.

One request at a time; what a client sends ahead is held, bounded, and answered in order. The state
is `_receive`, the bound method that takes the next bytes:

    _receive_head  ->  _receive_body  ->  _receive_early  ->  _receive_head ...
                                      \->  _receive_nothing (closing), or a Lingering takes over

Knows framing, persistence and deadlines; what a request means is the exchange's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet import protocol
from twisted.python.failure import Failure

from .. import trust
from ..deadlines import NEVER
from ..exchange import Exchange
from ..relay import Relay
from ..wire import bodies, serialise
from ..wire.errors import ProtocolError
from ..wire.heads import Fields, RequestHead, ResponseHead
from ..wire.requests import parse_request
from .lingering import Lingering
from .pace import AT_ONCE, Pace, Uptake

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
        self._head: RequestHead | None = None
        self.settings_changed()
        self._receive = self._next = self._receive_head  # made once, compared several times
        self._held = b""
        self._out: list[bytes] = []
        self._exchange: Exchange | None = None
        self._body: bodies.Reader | None = None
        self._request_ended = True
        self._chunked = self._serving = False
        self._last = False  # this response is the connection's last
        self._blocked = self._stopped = False  # the client, or we, take no more for now
        self._begun = False  # some of a head is here
        self._requests = 0
        self._expires = gateway.now() + gateway.timeouts.connection_age
        self._pace = Pace(gateway.limits)
        self._uptake = Uptake(gateway.limits, gateway.timeouts)

    def settings_changed(self) -> None:
        """The next request is looked at anew: nothing of one before says what it means now."""
        self._client = self._peer = self._gateway.client_of(self._opening)
        if self._head is not None:
            self._head.section = b""

    def __repr__(self) -> str:
        state = self._receive.__name__.removeprefix("_receive_")
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
        if self._blocked and self._receive is self._next:
            self._receive_early(b"")  # nothing begins for who takes no answers: the same bound

    def _serve(self) -> None:
        """Begin what is held, request after request. Answers made at once come back here while
        the loop runs, so pipelining never recurses."""
        if self._serving:
            return
        self._serving = True
        turn = AT_ONCE
        try:
            while self._held and self._receive is self._next and not self._blocked:
                if not turn:
                    self._receive = self._receive_early  # which bounds what comes meanwhile
                    self._gateway.deadlines.next_turn(self._go_on, self.transport.abortConnection)
                    break
                turn -= 1
                parsed = parse_request(self._held, self._gateway.head_limits, self._head)
                if parsed is None:
                    if not self._begun:
                        # Absolute from the head's first octet: drips do not move it.
                        self._begun = True
                        self.deadline = self._gateway.now() + self._gateway.timeouts.head
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
        if self._receive == self._receive_early and self._exchange is None:
            self._receive = self._next
            self._resume_input()
            self._serve()

    def _begin(self, head: RequestHead) -> None:
        gateway = self._gateway
        now = gateway.now()
        self._begun = False
        self._requests += 1
        before, self._head = self._head, head
        self._last = (
            not head.keep_alive
            or gateway.draining
            or self._requests >= gateway.limits.requests_per_connection
            or now >= self._expires
        )
        if before is None or head.fields is not before.fields:  # else the same says the same
            self._client = trust.identify(head, self._peer, gateway.networks)
        exchange = self._exchange = Exchange(gateway, self, head, self._client, now)
        if head.length == 0:
            self._request_ended = True
            self._receive = self._receive_early
            self.deadline = NEVER
            exchange.begin()
            return
        self._request_ended = False
        self._body = bodies.reader_for(head.length)
        self._receive = self._receive_body
        self._pace.restart(now)
        # Who waits for a 100 has his time from then on.
        self.deadline = NEVER if head.expects_continue else now + gateway.timeouts.body_idle
        exchange.begin()
        if self._held and self._exchange is exchange:
            data, self._held = self._held, b""
            self._receive_body(data)

    def _receive_body(self, data: bytes) -> None:
        body, exchange = self._body, self._exchange
        assert body is not None
        assert exchange is not None
        try:
            content = body.receive(data)
            if not body.finished:
                now = self._gateway.now()
                self._pace.came(len(data), now)
                if not self._stopped and not self._blocked:
                    self.deadline = now + self._gateway.timeouts.body_idle
        except ProtocolError as e:
            self._last = True
            exchange.refuse(e)
            return
        if body.finished:
            self._body = None
            self._held = body.rest
            self._request_ended = True
            self._receive = self._receive_early
            if not self._blocked:
                self.deadline = NEVER
        if content:
            exchange.request_content(content)
        if body.finished and self._exchange is exchange:
            exchange.request_end(body.trailers)

    def _receive_early(self, data: bytes) -> None:
        """The next request, while this one is not answered."""
        self._held += data
        if len(self._held) > self._gateway.limits.pipelined_bytes and not self._stopped:
            self._stopped = True
            self.transport.pauseProducing()

    def _refuse(self, error: ProtocolError) -> None:
        """What came is no request: say so and close."""
        self._last = True
        self._request_ended = False  # more of it may be on its way: linger
        self.send_whole(*self._gateway.refusal(self._peer, error))

    # Responses: the Downstream interface of an exchange.

    def send_informational(self, head: ResponseHead) -> None:
        """A 1xx; HTTP/1.0 knows none."""
        if self._head is not None and self._head.version >= 11:
            self._out.append(serialise.response_head(head))
        if head.status == 100 and self._receive == self._receive_body and not self._stopped:
            now = self._gateway.now()
            self._pace.restart(now)
            self.deadline = now + self._gateway.timeouts.body_idle

    def send_whole(self, head: ResponseHead, content: bytes) -> None:
        """The final response with all its content, of known length."""
        self.send_head(head)
        if content:
            self._out.append(content)
        self._end()

    def send_head(self, head: ResponseHead) -> None:
        """The final response's head, with the fields that are this connection's own."""
        old = self._head is not None and self._head.version < 11
        self._chunked = head.length < 0 and not old
        # What of HTTP/1.0 has no length ends with the connection.
        if not self._request_ended or self._gateway.draining or (old and head.length < 0):
            self._last = True
        own = serialise.CONNECTION_FIELDS[self._chunked, self._last, old]
        self._out.append(serialise.response_head(head, own))

    def send_content(self, data: bytes) -> None:
        """Some content."""
        self._out.append(serialise.chunk(data) if self._chunked else data)

    def send_end(self, trailers: Fields) -> None:
        """The response is complete: on to the next request, or to the end."""
        if self._chunked:
            self._out.append(serialise.last_chunk(trailers))
        self._end()

    def _end(self) -> None:
        self.transport.write(b"".join(self._out))
        self._out.clear()
        self._exchange = None
        if self._requests == 1:
            self._opening.proven()
        if not self._last:
            self._receive = self._next
            if not self._blocked:  # else the write stall's runs
                self.deadline = self._gateway.now() + self._gateway.timeouts.keepalive
            self._resume_input()
            if self._held:
                self._serve()
        elif self._request_ended and not self._held:
            self._close()
        else:
            self._linger()

    def flush(self) -> None:
        """One write for all that came together."""
        out = self._out
        if out:
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    def abort(self) -> None:
        """Cut the response: a reset, where a clean end would look like a whole response."""
        self._exchange = None
        self._leave()
        self.transport.abortConnection()

    def pause_reading(self) -> None:
        """Upstream takes no more of the request."""
        if not self._stopped and not self._request_ended:
            self._stopped = True
            self.deadline = NEVER  # it is not the client who is slow
            self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """It takes more again; the client's rate is measured from here."""
        if self._stopped and not self._request_ended:
            now = self._gateway.now()
            self._pace.restart(now)
            self.deadline = now + self._gateway.timeouts.body_idle
            self._resume_input()

    def _resume_input(self) -> None:
        if self._stopped:
            self._stopped = False
            self.transport.resumeProducing()

    def switch(self, head: ResponseHead, early: bytes, upstream: Stream) -> None:
        """Leave HTTP: upstream's 101 and what came with it, then bytes both ways."""
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        self._out += (serialise.response_head(head), early)
        self.flush()
        self._opening.proven()
        held, self._held = self._held, b""
        self._leave()
        self._next = self._receive  # no bound method of ours: no reference cycle stays
        Relay(self._gateway, exchange, self.transport, upstream, held)

    # Backpressure: we are the producer that the client's transport pauses.

    def pauseProducing(self) -> None:
        """The client does not take what we write."""
        self._blocked = True
        self.deadline = self._uptake.restart(self.transport.outstanding, self._gateway.now())
        if self._exchange is not None:
            self._exchange.pause_response()

    def resumeProducing(self) -> None:
        """It took everything."""
        self._blocked = False
        self.deadline = NEVER
        if self._exchange is not None:
            if self._receive == self._receive_body and not self._stopped:
                self.deadline = self._gateway.now() + self._gateway.timeouts.body_idle
            self._exchange.resume_response()
        elif self._receive is self._next:
            timeouts = self._gateway.timeouts
            wait = timeouts.head if self._begun else timeouts.keepalive
            self.deadline = self._gateway.now() + wait
            self._resume_input()
            self._serve()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""

    # The end.

    def deadline_passed(self, now: float) -> None:
        """The client is too slow, or idle for long enough."""
        if self._blocked or self._receive == self._receive_nothing:
            self._stalled(now)
        elif self._receive == self._receive_body:
            assert self._exchange is not None
            self._last = True
            self.deadline = NEVER
            error = ProtocolError(408, "the request body stopped", "timeouts.body_idle")
            self._exchange.refuse(error)
        elif self._receive is self._next and self._begun:
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
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel()
        self.abort()

    def drain(self) -> None:
        """Close as soon as no request runs."""
        self._last = True
        idle = self._receive is self._next and not self._begun
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
        self._blocked = False
        self.deadline = self._uptake.restart(self.transport.outstanding, self._gateway.now())
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    @staticmethod
    def _receive_nothing(data: bytes) -> None:
        pass

    def _leave(self) -> None:
        self._receive = self._receive_nothing
        self.deadline = NEVER
        self._gateway.deadlines.discard(self)
        self._gateway.connections.discard(self)
        self.transport.unregisterProducer()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """The client is gone."""
        exchange, self._exchange = self._exchange, None
        self._leave()
        if exchange is not None:
            exchange.cancel()
