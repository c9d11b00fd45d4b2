"""Owns one stream of an HTTP/2 connection (RFC 9113 5): one request and its response.

It is what an exchange sees of the client, as Responses is for HTTP/1.1. What the client's windows
do not take yet of a response waits in http2_outgoing.py. What came of a request is not acknowledged
before upstream takes it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, cast

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError as H2Error

from .. import trust
from ..deadlines import NEVER
from ..exchange import Exchange
from ..relay import Relay
from ..wire import http2
from ..wire.errors import ProtocolError
from ..wire.heads import Fields, RequestHead, ResponseHead
from .http2_outgoing import Outgoing
from .pace import Pace
from .tunnel import Tunnel

if TYPE_CHECKING:
    from ..gateway import Gateway
    from ..transport.stream import Stream as Transport
    from .http2 import Connection

# HPACK makes as many octets of a head of a few: more than this is counted while its request runs.
LARGE_HEAD = 8192


class Stream:
    """A stream of `connection`, with this number. `ended`: its request has no content."""

    __slots__ = (
        "_closing",
        "_connection",
        "_done",
        "_exchange",
        "_held_back",
        "_number",
        "_outgoing",
        "_pace",
        "_request_ended",
        "_tunnel",
        "_unacknowledged",
        "deadline",
    )

    def __init__(self, connection: Connection, number: int, ended: bool) -> None:
        self.deadline = NEVER
        self._connection = connection
        self._number = number
        self._exchange: Exchange | None = None
        self._tunnel: Tunnel | None = None
        self._outgoing = Outgoing(connection.turns, number, self)
        self._request_ended = ended
        self._pace: Pace | None = None  # of content that is expected
        self._held_back = False  # upstream takes no more of the request
        self._unacknowledged = 0
        self._done = False  # the response is out
        self._closing = False  # do not wait for the client's end of a tunnel

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._number} {self._exchange} pending={self.pending}>"

    @property
    def gateway(self) -> Gateway:
        """What all connections serve."""
        return self._connection.gateway

    # The request.

    def begin(self, head: RequestHead, client: trust.Client, now: float) -> None:
        """Its head is here."""
        gateway = self.gateway
        exchange = self._exchange = Exchange(gateway, self, head, client, now)
        if head.upgrade:
            self._tunnel = Tunnel(self)
        elif not self._request_ended:
            self._pace = Pace(gateway.limits, now)
            if not head.expects_continue:  # who waits for a 100 has his time from then on
                self._await_content()
        exchange.begin()
        if len(head.forwarded) > LARGE_HEAD and self._exchange is exchange:
            self._outgoing.count_beside(len(head.forwarded))

    def _await_content(self) -> None:
        """The client's time and rate are measured from here."""
        if self._pace is not None:
            gateway = self.gateway
            now = gateway.now()
            self._pace.restart(now)
            self.deadline = now + gateway.timeouts.body_idle
            gateway.deadlines.add(self)

    def receive(self, data: bytes, size: int, ended: bool) -> None:
        """Some content; `size` is what it took of the windows."""
        self._unacknowledged += size
        exchange, pace, tunnel = self._exchange, self._pace, self._tunnel
        if tunnel is not None:
            self._request_ended = ended
            tunnel.receive(data, ended)
            if not tunnel.stopped:
                self._acknowledge()
            if ended and self._done:
                self._end_tunnel()
        elif exchange is None or pace is None:
            self._request_ended = ended  # the answer is on its way: the window bounds what comes
        else:
            gateway = self.gateway
            now = gateway.now()
            try:
                pace.came(len(data), now)
            except ProtocolError as e:
                exchange.refuse(e)
                return
            if not self._held_back:  # who did not wait for his 100 is measured from now on
                self.deadline = now + gateway.timeouts.body_idle
                gateway.deadlines.add(self)
            if data:
                exchange.request_content(data)
            if ended:
                self.end_request([])
            if not self._held_back:
                self._acknowledge()

    def end_request(self, trailers: Fields) -> None:
        """Its content is complete."""
        if self._tunnel is not None:  # RFC 9113 8.5: only DATA
            self.reset_tunnel()
            return
        self._request_ended = True
        self._pace = None
        self.deadline = NEVER
        exchange = self._exchange
        # One whose head said that there is no content has been forwarded whole.
        if exchange is not None and exchange.head.length:
            if 0 < exchange.head.length != exchange.received:
                # The library does not look where trailers end it. Upstream would take the rest
                # from the next request.
                exchange.refuse(ProtocolError(400, "less content than Content-Length says"))
            else:
                exchange.request_end(trailers)

    def refuse(self, error: ProtocolError) -> None:
        """What came of the request is none: say so."""
        if self._exchange is not None:
            self._exchange.refuse(error)
        else:
            self.send_whole(*self._connection.refusal(error))

    def _acknowledge(self) -> None:
        size, self._unacknowledged = self._unacknowledged, 0
        if size:
            self._connection.h2.acknowledge_received_data(size, self._number)

    def pause_reading(self) -> None:
        """Upstream takes no more of the request: acknowledge nothing, and wait."""
        self._held_back = True
        self.deadline = NEVER  # it is not the client who is slow

    def resume_reading(self) -> None:
        """It takes more again."""
        if self._held_back:
            self._held_back = False
            self._await_content()
            self.taken()

    def taken(self) -> None:
        """Whoever gets what came has taken it."""
        self._acknowledge()
        self._connection.turns.flush()

    def deadline_passed(self, now: float) -> None:
        """The client does not send its content."""
        self.deadline = NEVER
        if self._exchange is not None:
            self.refuse(ProtocolError(408, "the request body stopped", "timeouts.body_idle"))
            self._connection.turns.flush()

    # The response: an exchange's Carrier.

    def send_informational(self, head: ResponseHead) -> None:
        """A 1xx."""
        self._send_headers(http2.response_fields(head), False)
        if head.status == 100 and not self._held_back:
            self._await_content()

    def send_whole(self, head: ResponseHead, content: bytes) -> None:
        """The final response with all its content."""
        sent = self._send_headers(http2.response_fields(head), not content)
        if content:
            self._outgoing.content(content)
            self.send_end([])
        else:
            self._exchange = None
            if sent:
                self.response_sent()

    def send_head(self, head: ResponseHead) -> None:
        """The final response's head."""
        self._send_headers(http2.response_fields(head), False)

    def _send_headers(self, fields: Fields, ended: bool) -> bool:
        """Whether the stream was still there. If not, it was reset in the octets that asked for
        it: that is what is told next."""
        try:
            self._connection.h2.send_headers(self._number, fields, ended)
        except H2Error:  # one of several, by whether the library has forgotten it
            return False
        self._connection.turns.flush()
        return True

    def send_content(self, data: bytes) -> None:
        """Some content."""
        outgoing = self._outgoing
        full = outgoing.full
        outgoing.content(data)
        if outgoing.full and not full:
            if self._tunnel is not None:
                self._tunnel.pause_upstream()
            elif self._exchange is not None:
                self._exchange.pause_response()

    def send_end(self, trailers: Fields) -> None:
        """The response is complete."""
        self._exchange = None
        self.deadline = NEVER
        self._outgoing.end(trailers)
        self._connection.turns.flush()

    def flush(self) -> None:
        """Let what was sent go out, with what the other streams have."""
        self._connection.turns.flush()

    def abort(self) -> None:
        """Cut the response visibly."""
        self.reset(ErrorCodes.INTERNAL_ERROR)

    def switch(self, head: ResponseHead, early: bytes, upstream: Transport) -> None:
        """A WebSocket inside the stream: RFC 8441 5."""
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        assert self._tunnel is not None
        self._outgoing.count_beside(0)
        self._send_headers(http2.switching_fields(head), False)
        if early:
            self._outgoing.content(early)
        self._connection.opening.proven()
        Relay(self.gateway, exchange, cast("Transport", self._tunnel), upstream, b"")
        if self._tunnel is not None and self._outgoing.full:
            self._tunnel.pause_upstream()

    # What its outgoing side says.

    @property
    def pending(self) -> int:
        """Octets of the response that wait."""
        return self._outgoing.pending

    def window_opened(self) -> None:
        """The client takes more of this stream, or of all."""
        if self._outgoing.unfinished:
            self._connection.turns.queue(self._outgoing)

    def response_taken(self) -> None:
        """There is room for more."""
        if self._tunnel is not None:
            self._tunnel.resume_upstream()
        elif self._exchange is not None:
            self._exchange.resume_response()

    def response_stalled(self) -> None:
        """The client does not read it."""
        self.gateway.count_refused("the client did not read its response")
        self._reset(ErrorCodes.CANCEL)
        self.cancel()
        self._connection.turns.flush()

    def response_sent(self) -> None:
        """The response is out."""
        self._done = True
        if self._tunnel is None or self._tunnel.protocol is None:
            if not self._request_ended:
                self._reset(ErrorCodes.NO_ERROR)  # RFC 9113 8.1: the rest of it is not wanted
            self._leave()
            self._connection.opening.proven()
        elif self._closing or self._request_ended:
            self._end_tunnel()
        # Else the client's END_STREAM comes, or the relay does not wait for it.

    # The end.

    def close_tunnel(self) -> None:
        """Do not wait for the client's END_STREAM, once ours is out."""
        self._closing = True
        if self._done:
            self._end_tunnel()

    def _end_tunnel(self) -> None:
        if not self._request_ended:
            self._reset(ErrorCodes.NO_ERROR)
        self.cancel()
        self._connection.turns.flush()

    def reset_tunnel(self) -> None:
        """The client sent what no tunnel carries."""
        self._reset(ErrorCodes.PROTOCOL_ERROR)
        self.cancel()

    def reset(self, code: ErrorCodes) -> None:
        """End it at once."""
        self._reset(code)
        self._leave()
        self._connection.turns.flush()

    def _reset(self, code: ErrorCodes) -> None:
        with suppress(H2Error):  # by both sides at the same time
            self._connection.h2.reset_stream(self._number, code)

    def cancel(self) -> None:
        """Nobody wants more of it."""
        exchange, tunnel = self._exchange, self._tunnel
        self._leave()
        if exchange is not None:
            exchange.cancel()
        if tunnel is not None:
            tunnel.lost()

    def _leave(self) -> None:
        if self._tunnel is not None:
            self._connection.opening.end_tunnel()
        self._exchange = self._pace = self._tunnel = None
        self._outgoing.forget()
        self.deadline = NEVER
        self.gateway.deadlines.discard(self)
        self._acknowledge()  # for the connection's window
        self._connection.forget(self._number)

    def enable_keepalive(self) -> None:
        """Let the kernel probe a silent client."""
        self._connection.transport.enable_keepalive()
