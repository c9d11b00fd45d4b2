"""Owns one HTTP/1.1 connection to upstream: writes requests, and knows whose turn it is and what
becomes of the connection (RFC 9112). Responses are read by responses.py.

The state is `receive`, which takes the next bytes. A connection goes back to the pool when both
request and response are complete, and is aborted in every other case: a connection whose state is
in doubt is never used again.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet import protocol
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from ..deadlines import NEVER, Deadlines
from ..errors import ConnectionCut, NoCapacity, TimedOut, UpstreamError
from ..settings import Timeouts
from ..wire import serialise
from ..wire.errors import ProtocolError
from ..wire.heads import CHUNKED, Fields, HeadLimits, RequestHead
from .responses import Responses

if TYPE_CHECKING:
    from ..transport.stream import Stream
    from .lessee import Lessee
    from .server import Server

NO_FIELDS: Fields = []


class Connection(protocol.Protocol):
    """A connection in one pool.

    `exchange` has the lease. `method` is that of the last request, `key` the Sec-WebSocket-Key that
    upstream saw of it. `silent` says that not one byte of a response has come since `start`,
    `reused` that it was idle before: upstream may have closed it meanwhile. `requests` counts what
    it carried. `asked` is when the request was sent whole (clock seconds), 0.0 until then.
    `paused`: the client takes no more of the response. `buffer` bounds, in octets, what of a
    request waits for upstream to read it.
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
        self.exchange: Lessee | None = None
        self.method = b""
        self.key: bytes | None = None
        self.deadline = NEVER
        self.requests = 0
        self.asked = 0.0
        self.silent = True
        self.reused = False
        self.paused = False
        self.opened_at = deadlines.now()
        self.idle_since = self.opened_at
        # It is given the connection with the bytes: a bound method of ours would be a reference
        # cycle.
        self.receive: Callable[[Connection, bytes], None] = self._receive_idle
        self._responses = Responses(limits, deadlines.now, timeouts.upstream_idle)
        self._deadlines = deadlines
        self._timeouts = timeouts
        self._buffer = buffer
        self._request_ended = True
        self._chunked = False
        self._owes = False  # it is upstream's turn
        self._full = False  # upstream takes no more of the request

    def __repr__(self) -> str:
        state = self.receive.__name__.lstrip("_").removeprefix("receive_")
        return f"<{type(self).__name__} {self.server.upstream} {state} requests={self.requests}>"

    def alive(self) -> bool:
        """Whether upstream has neither closed an idle connection nor said anything: what came since
        the reactor's last turn is known to the kernel alone."""
        try:
            handle: socket.socket = self.transport.getHandle()
            handle.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False  # closed, or something that nobody asked for

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
        self.exchange = exchange
        self.method = head.method
        # Only what upstream has seen can be answered: Connection may have named the key.
        asked = head.upgrade and b"\r\nsec-websocket-key:" in fields
        self.key = head.get(b"sec-websocket-key") if asked else None
        self.receive = self._responses.receive_head
        self._request_ended = ended
        self._chunked = head.length == CHUNKED
        self._full = False
        # Upstream owes a response to a whole request, and its 100 to who asks for one. While the
        # client sends, it is the client's own deadline that runs.
        self._owes = owes = ended or head.expects_continue
        self.asked = self._deadlines.now() if owes else 0.0
        self.deadline = self.asked + self._timeouts.first_byte if owes else NEVER
        out = serialise.request_head(head.method, head.target, fields)
        if content:
            out += serialise.chunk(content) if self._chunked else content
        if ended and self._chunked:
            out += serialise.last_chunk(trailers)
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
        if self.exchange is not None and self._responses.content is None:
            waits = self._owes or self._full
            self.deadline = self._deadlines.now() + self._timeouts.first_byte if waits else NEVER

    # Backpressure. As a producer the connection is what upstream's transport pauses: the request.

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._full = True
        self._await_response()
        if self.exchange is not None:
            self.exchange.pause_request()

    def resumeProducing(self) -> None:
        """It is empty again."""
        self._full = False
        self._await_response()
        if self.exchange is not None:
            self.exchange.resume_request()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""

    def pause_reading(self) -> None:
        """The client takes no more of the response for now."""
        self.paused = True
        self.deadline = NEVER  # the client's own deadline runs
        self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """It does again."""
        if self.paused and self.exchange is not None:
            self.paused = False
            self.deadline = self._deadlines.now() + self._timeouts.upstream_idle
            self.transport.resumeProducing()

    @property
    def waits_since(self) -> float:
        """When the request began (clock seconds) whose client is waited for: it is to send more of
        it, or to take its response. NEVER where it is upstream's turn, or nobody has the lease."""
        exchange = self.exchange
        if exchange is None:
            return NEVER
        sends = not (self._request_ended or self._owes or self._full)
        return exchange.started if sends or self.paused else NEVER

    def rate(self, now: float) -> float:
        """Octets a second of that request's content, since it began: at least some time ago."""
        exchange = self.exchange
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
        exchange = self.exchange
        try:
            self.receive(self, data)
        except ProtocolError as e:
            self._fail(e)
            return
        if exchange is not None and self.exchange is exchange:
            exchange.response_flush()  # one that is over has been flushed

    @staticmethod
    def _receive_idle(connection: Connection, data: bytes) -> None:
        # Nobody asked: a response to nothing, or one that was longer than it said.
        connection.abort()

    def client_may_go_on(self) -> None:
        """A 100 came: it is the client's turn, if there is more of the request."""
        self._owes = self._request_ended
        if not self._owes:
            self.asked = 0.0
        self._await_response()

    def response_ended(self, clean: bool, keep: bool) -> None:
        """The response is complete: the exchange is about to hear it, and we are free.

        `clean`: nothing came after it. `keep`: upstream keeps the connection open.
        """
        self.exchange = None
        self.receive = self._receive_idle
        self.deadline = NEVER
        if self.paused:
            self.paused = False
            self.transport.resumeProducing()
        # Bytes after the response, or a request that was not read to its end: the next response on
        # this connection could be anything's.
        if not clean or not self._request_ended or self.transport.buffered:
            self.abort()
        elif keep:
            self.server.pool.give_back(self)
        else:
            self.close()

    # The end.

    def deadline_passed(self, now: float) -> None:
        """Upstream was silent for too long, or the connection idle."""
        if self.exchange is None:
            self.close()
        elif self._responses.content is None:
            self._fail(
                TimedOut(
                    "no response from upstream within timeouts.first_byte. Its log may say why."
                )
            )
        else:
            self._fail(TimedOut("the response of upstream came to a halt (timeouts.upstream_idle)"))

    def _fail(self, error: UpstreamError | ProtocolError) -> None:
        exchange, self.exchange = self.exchange, None
        self.abort()
        if exchange is not None:
            exchange.upstream_failed(error)
            exchange.response_flush()

    def abort(self) -> None:
        """Close now, whatever is still on its way; tell nobody."""
        self.leave()
        self.transport.abortConnection()

    def close(self) -> None:
        """Close an idle connection in good manners."""
        self.leave()
        self.transport.loseConnection()

    def leave(self) -> None:
        """It is no longer the pool's, and reads nothing more of its transport."""
        self.exchange = None
        self.receive = self._receive_nothing
        self.deadline = NEVER
        self._deadlines.discard(self)
        self.server.forget(self)
        self.transport.unregisterProducer()

    @staticmethod
    def _receive_nothing(connection: Connection, data: bytes) -> None:
        pass

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Upstream closed, or the connection broke."""
        exchange, self.exchange = self.exchange, None
        self._deadlines.discard(self)
        self.server.forget(self)
        if exchange is None:
            return
        content = self._responses.content
        try:
            if content is None or not reason.check(ConnectionDone):
                raise ConnectionCut(
                    "upstream closed the connection before its response was complete. Its log may"
                    " say why."
                )
            content.end_of_input()
        except (UpstreamError, ProtocolError) as e:
            exchange.upstream_failed(e)
        else:
            exchange.response_end([])
        exchange.response_flush()
