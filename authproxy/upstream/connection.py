"""Owns one HTTP/1.1 connection to upstream: writes a request, reads its response (RFC 9112).

The state is `_receive`, the bound method that takes the next bytes. What is read goes to the
exchange that has the lease; the connection goes back to the pool when both request and response
are complete, and is aborted in every other case: a connection whose state is in doubt is never
used again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet import protocol
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from ..deadlines import NEVER, Deadlines
from ..errors import ConnectionCut, NoCapacity, TimedOut, UpstreamError
from ..settings import Timeouts
from ..wire import bodies, serialise, websocket
from ..wire.errors import ProtocolError
from ..wire.heads import CHUNKED, UNTIL_CLOSE, Fields, HeadLimits, RequestHead, ResponseHead
from ..wire.incomplete import Incomplete
from ..wire.responses import parse_response, refuse_early

if TYPE_CHECKING:
    from ..transport.stream import Stream
    from .lessee import Lessee
    from .server import Server

# A 1xx costs an upstream nothing to send; a response of nothing else would never end.
MOST_INFORMATIONAL = 32
NO_FIELDS: Fields = []


class Connection(protocol.Protocol):
    """A connection in one pool.

    `silent` says that not one byte of a response has come since `start`, `reused` that it was idle
    before: upstream may have closed it meanwhile. `requests` counts what it carried. `asked` is
    when the request was sent whole (clock seconds), 0.0 until then. `buffer` bounds, in octets,
    what of a request waits for upstream to read it.
    """

    transport: Stream

    def __init__(
        self,
        server: Server,
        deadlines: Deadlines,
        timeouts: Timeouts,
        limits: HeadLimits,
        buffer: int = 65536,
    ) -> None:
        self.server = server
        self.deadline = NEVER
        self.requests = 0
        self.asked = 0.0
        self.silent = True
        self.reused = False
        self.opened_at = deadlines.now()
        self.idle_since = self.opened_at
        self._deadlines = deadlines
        self._timeouts = timeouts
        self._limits = limits
        self._buffer = buffer
        self._receive = self._receive_idle
        self._exchange: Lessee | None = None
        self._method = b""
        self._key: bytes | None = None
        self._head: ResponseHead | None = None
        self._incomplete: Incomplete | None = None  # a response head
        self._body: bodies.Reader | None = None
        self._request_ended = True
        self._chunked = False
        self._keep = True
        self._informational = 0
        self._owes = False
        self._full = False
        self._paused = False

    def __repr__(self) -> str:
        state = self._receive.__name__.removeprefix("_receive_")
        return f"<{type(self).__name__} {self.server.upstream} {state} requests={self.requests}>"

    # The request.

    def start(
        self,
        exchange: Lessee,
        head: RequestHead,
        fields: bytes,
        content: bytes,
        ended: bool,
        trailers: Fields = NO_FIELDS,
    ) -> None:
        """Send a request, and what of its content is there already, in one write.

        `fields` are sent in the place of the head's own: what forwarding made of them. `ended` says
        that the content is all of it; trailers go with it then.
        """
        self.requests += 1
        self.silent = True
        self._exchange = exchange
        self._method = head.method
        # Only what upstream has seen can be answered: Connection may have named the key.
        asked = head.upgrade and b"\r\nsec-websocket-key:" in fields
        self._key = head.get(b"sec-websocket-key") if asked else None
        self._request_ended = ended
        self._chunked = head.length == CHUNKED
        self._informational = 0
        self._receive = self._receive_head
        self._full = False
        # Upstream owes a response to a whole request, and its 100 to who asks for one. While the
        # client sends, it is the client's own deadline that runs.
        if ended or head.expects_continue:
            self._owes = True
            self.asked = now = self._deadlines.now()
            self.deadline = now + self._timeouts.first_byte
        else:
            self._owes = False
            self.asked = 0.0
            self.deadline = NEVER
        out = serialise.request_head(head.method, head.target, fields)
        if self._chunked:
            if content:
                out += serialise.chunk(content)
            if ended:
                out += serialise.last_chunk(trailers)
        elif content:
            out += content
        self.transport.write(out)

    def send_content(self, data: bytes) -> None:
        """More of the request's content."""
        self.transport.write(serialise.chunk(data) if self._chunked else data)

    def send_end(self, trailers: Fields) -> None:
        """The request is complete."""
        self._request_ended = True
        self._owes = True
        self.asked = self._deadlines.now()
        self._await_response()
        if self._chunked:
            self.transport.write(serialise.last_chunk(trailers))

    def _await_response(self) -> None:
        """Let first_byte run from now on, if it is upstream that everybody waits for."""
        if self._receive == self._receive_head:
            waits = self._owes or self._full
            self.deadline = self._deadlines.now() + self._timeouts.first_byte if waits else NEVER

    # Backpressure. As a producer the connection is what upstream's transport pauses: the request.

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._full = True
        self._await_response()
        if self._exchange is not None:
            self._exchange.pause_request()

    def resumeProducing(self) -> None:
        """It is empty again."""
        self._full = False
        self._await_response()
        if self._exchange is not None:
            self._exchange.resume_request()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""

    def pause_reading(self) -> None:
        """The client takes no more of the response for now."""
        self._paused = True
        self.deadline = NEVER  # the client's own deadline runs
        self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """It does again."""
        if self._paused and self._exchange is not None:
            self._paused = False
            self.deadline = self._deadlines.now() + self._timeouts.upstream_idle
            self.transport.resumeProducing()

    @property
    def waits_since(self) -> float:
        """When the request began (clock seconds) whose client is waited for: it is to send more of
        it, or to take its response. NEVER where it is upstream's turn, or nobody has the lease."""
        exchange = self._exchange
        if exchange is None:
            return NEVER
        sends = not (self._request_ended or self._owes or self._full)
        return exchange.started if sends or self._paused else NEVER

    def rate(self, now: float) -> float:
        """Octets a second of that request's content, since it began: at least some time ago."""
        exchange = self._exchange
        return 0.0 if exchange is None else exchange.moved / (now - exchange.started)

    def give_way(self) -> None:
        """Others need the place."""
        self._fail(
            NoCapacity(
                "a slow client had an upstream connection that others waited for, and all"
                " pool.connections were in use"
            )
        )

    # The response.

    def connectionMade(self) -> None:
        """Connected, and verified where that is asked for."""
        self._deadlines.add(self)
        self.transport.bufferSize = self._buffer
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Bytes from upstream."""
        exchange = self._exchange
        try:
            self._receive(data)
        except ProtocolError as e:
            self._fail(e)
            return
        if exchange is not None and self._exchange is exchange:
            exchange.response_flush()  # one that is over has been flushed

    def _receive_idle(self, data: bytes) -> None:
        # Nobody asked: a response to nothing, or one that was longer than it said.
        self.abort()

    def _receive_head(self, data: bytes) -> None:
        self.silent = False
        if self._incomplete is not None:
            data = self._incomplete.more(data)
            if not data:
                return
            self._incomplete = None
        while True:
            parsed = parse_response(data, self._limits, self._method, self._head)
            if parsed is None:
                self._incomplete = Incomplete(data, self._limits, refuse_early)
                return
            head, consumed = parsed
            data = data[consumed:]
            if head.status >= 200:
                self._head = head
                break
            if head.status == 101:
                self._switch(head, data)
                return
            self._informational += 1
            if self._informational > MOST_INFORMATIONAL:
                raise ProtocolError(502, "too many informational responses")
            if head.status == 100:  # the turn is the client's; no other 1xx lets it go on
                self._owes = self._request_ended
                if not self._owes:
                    self.asked = 0.0
                self._await_response()
            exchange = self._exchange
            assert exchange is not None
            exchange.response_informational(head)
            if self._exchange is not exchange:
                return  # it was cancelled meanwhile
            if not data:
                return
        self._begin_body(head, data)

    def _begin_body(self, head: ResponseHead, data: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        self._keep = head.keep_alive and head.length != UNTIL_CLOSE
        length = head.length
        if 0 <= length <= len(data):  # all of it is here: no reader needed
            clean = length == len(data)
            self._let_go(clean)
            exchange.response_whole(head, data if clean else data[:length])
            return
        self._receive = self._receive_body
        self._body = bodies.reader_for(length, 502)
        self.deadline = self._deadlines.now() + self._timeouts.upstream_idle
        exchange.response_head(head)
        if data and self._exchange is exchange:
            self._receive_body(data)

    def _receive_body(self, data: bytes) -> None:
        body, exchange = self._body, self._exchange
        assert body is not None
        assert exchange is not None
        if not self._paused:
            self.deadline = self._deadlines.now() + self._timeouts.upstream_idle
        content = body.receive(data)
        if content:
            exchange.response_content(content)
        if body.finished and self._exchange is exchange:
            self._let_go(clean=not body.rest)
            exchange.response_end(body.trailers)

    def _let_go(self, clean: bool) -> None:
        """The response is complete: the exchange is about to hear it, and we are free.

        `clean`: nothing came after it.
        """
        self._exchange = self._body = None
        self._receive = self._receive_idle
        self.deadline = NEVER
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()
        # Bytes after the response, or a request that was not read to its end: the next response on
        # this connection could be anything's.
        if not clean or not self._request_ended or self.transport.buffered:
            self.abort()
        elif self._keep:
            self.server.pool.give_back(self)
        else:
            self.close()

    def _switch(self, head: ResponseHead, early: bytes) -> None:
        if self._key is None:
            raise ProtocolError(502, "a 101 that nobody asked for")
        websocket.check_switching(head, self._key)
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        self._leave()
        exchange.response_switching(head, early)

    # The end.

    def deadline_passed(self, now: float) -> None:
        """Upstream was silent for too long, or the connection idle."""
        if self._exchange is None:
            self.close()
        elif self._receive == self._receive_head:
            self._fail(
                TimedOut(
                    "no response from upstream within timeouts.first_byte. Its log may say why."
                )
            )
        else:
            self._fail(TimedOut("the response of upstream came to a halt (timeouts.upstream_idle)"))

    def _fail(self, error: UpstreamError | ProtocolError) -> None:
        exchange, self._exchange = self._exchange, None
        self.abort()
        if exchange is not None:
            exchange.upstream_failed(error)
            exchange.response_flush()

    def abort(self) -> None:
        """Close now, whatever is still on its way; tell nobody."""
        self._leave()
        self.transport.abortConnection()

    def close(self) -> None:
        """Close an idle connection in good manners."""
        self._leave()
        self.transport.loseConnection()

    def _leave(self) -> None:
        self._exchange = None
        self._receive = self._receive_nothing  # not a bound method: no reference cycle stays
        self.deadline = NEVER
        self._deadlines.discard(self)
        self.server.forget(self)
        self.transport.unregisterProducer()

    @staticmethod
    def _receive_nothing(data: bytes) -> None:
        pass

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Upstream closed, or the connection broke."""
        exchange, self._exchange = self._exchange, None
        self._deadlines.discard(self)
        self.server.forget(self)
        if exchange is None:
            return
        try:
            if self._body is None or not reason.check(ConnectionDone):
                raise ConnectionCut(
                    "upstream closed the connection before its response was complete. Its log may"
                    " say why."
                )
            self._body.end_of_input()
        except (UpstreamError, ProtocolError) as e:
            exchange.upstream_failed(e)
        else:
            exchange.response_end([])
        exchange.response_flush()
