"""Owns one exchange: a request and its final response, whatever HTTP version carries it.

Collects a small body, leases an upstream connection, carries the request to it and the response
back, tries again once where that is safe, and turns every fault into an answer or a visible abort.
The two sides know it by two small interfaces: `carrier.Carrier` is what it needs of a client
connection (or stream), `upstream.lessee.Lessee` what an upstream connection needs of it.

No Deferred and no reactor: on a pool hit the whole path is one chain of calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import forwarding
from .errors import ConnectionCut, UpstreamError, from_upstream, status_of
from .wire import serialise
from .wire.errors import ProtocolError
from .wire.heads import Fields, RequestHead, ResponseHead

if TYPE_CHECKING:
    from .carrier import Carrier
    from .gateway import Gateway, Site
    from .trust import Client
    from .upstream.connection import Connection

# RFC 9110 9.2.2: repeating these does no harm. POST, PATCH and unknown ones are never repeated.
REPLAYABLE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
# Content that is collected comes in so many pieces, or is joined: one of two octets takes 43.
PIECES = 64
CLIENT_CLOSED = 499  # only in the log: the client went before it had its answer


class Exchange:
    """One request and its final response.

    `status`, `sent` (octets of content sent to the client), `started` (clock seconds), `upstream`
    (which server, as text) and `request_id` (set where an answer was made here) are what the access
    line says. `received` counts octets of the request's content; `responding`: the final response
    has begun. `site` is set by Gateway.route. `asked` is when upstream had the request (clock
    seconds), of a response that came whole: it began when it was over.
    """

    __slots__ = (
        "_connection",
        "_content",
        "_downstream",
        "_ended",
        "_gateway",
        "_leasing",
        "_read_paused",
        "_trailers",
        "_tries",
        "asked",
        "client",
        "head",
        "received",
        "request_id",
        "responding",
        "sent",
        "site",
        "started",
        "status",
        "upstream",
    )

    def __init__(
        self,
        gateway: Gateway,
        downstream: Carrier,
        head: RequestHead,
        client: Client,
        now: float,
    ) -> None:
        self.head = head
        self.client = client
        self.site: Site | None = None
        self.status = 0
        self.sent = 0
        self.received = 0
        self.started = now
        self.asked = 0.0
        self.upstream = ""
        self.request_id = ""
        self._gateway = gateway
        self._downstream = downstream
        self._connection: Connection | None = None
        self._content: list[bytes] | None = None
        self._ended = head.length == 0
        self._trailers: Fields = []
        self._leasing = False
        self.responding = False
        self._read_paused = False
        self._tries = 0

    def __repr__(self) -> str:
        return f"<Exchange {self.head.method!r} status={self.status} tries={self._tries}>"

    @property
    def moved(self) -> int:
        """Octets of content that came from the client, and that went to it."""
        return self.received + self.sent

    @property
    def whole(self) -> bool:
        """Whether all of the request is here."""
        return self._ended

    # Routing.

    def begin(self) -> None:
        """The head is here: answer it, or begin to forward it."""
        site = self._gateway.route(self)
        if site is None:
            return  # answered
        # An asynchronous authorization step goes here: it calls _authorized when it is done.
        self._authorized(site)

    def _authorized(self, site: Site) -> None:
        head = self.head
        if not head.forwarded:
            # A head that repeats the fields of another has what follows from them, and from the
            # connection that both came on: all that is looked at here.
            forwarded = forwarding.request(head, self.client, site.append)
            head.forwarded = serialise.section(forwarded.fields)
            head.dropped = forwarded.dropped
        if head.dropped:
            self._gateway.dropped_fields.update(head.dropped)
        if self._ended or head.expects_continue:
            # A client that waits for 100 (Continue) gets upstream's own.
            self._lease()

    # The lease.

    def _lease(self, fresh: bool = False) -> None:
        assert self.site is not None
        self._leasing = True
        try:
            connection = self.site.pool.take(self, fresh)
        except UpstreamError as e:
            self.lease_failed(e)
            return
        if connection is not None:
            self.leased(connection)

    def leased(self, connection: Connection) -> None:
        """The pool gives us this connection: send what we have of the request."""
        self._leasing = False
        self._connection = connection
        self._tries += 1
        self.upstream = connection.server.name
        head = self.head
        if self._read_paused:  # before the start, which may pause it for upstream's sake
            self._read_paused = False
            self._downstream.resume_reading()
        content, ended = self._content, self._ended
        if content is None:
            connection.start(self, head, head.forwarded, b"", ended)
        else:
            joined = b"".join(content)
            connection.start(self, head, head.forwarded, joined, ended, self._trailers)
            if not ended:
                self._content = None  # from here on it is streamed, and cannot be sent again

    def lease_failed(self, error: UpstreamError) -> None:
        """The pool has none for us."""
        self._leasing = False
        self._fault(error)

    # The request, from downstream.

    def request_content(self, data: bytes) -> None:
        """Some content of the request."""
        self.received += len(data)
        limit = self._gateway.limits.body_bytes
        if limit and self.received > limit:
            self.refuse(ProtocolError(413, "the request is too large", "limits.body_bytes"))
            return
        if self._connection is not None:
            self._connection.send_content(data)
            return
        if self._content is None:
            self._content = []
        self._content.append(data)
        if len(self._content) > PIECES:
            self._content = [b"".join(self._content)]
        if self.received >= self._gateway.limits.body_collect:
            self._read_paused = True
            self._downstream.pause_reading()
            if not self._leasing:
                self._lease()

    def request_end(self, trailers: Fields) -> None:
        """The request is complete."""
        self._ended = True
        if trailers:
            trailers = forwarding.trailers(trailers)
        if self._connection is not None:
            self._connection.send_end(trailers)
            return
        self._trailers = trailers
        if not self._leasing:
            self._lease()
        elif self.site is not None:
            self.site.pool.waiter_completed(self)

    def refuse(self, error: ProtocolError) -> None:
        """What came of the request is not HTTP, or too much: answer that, or abort."""
        self._gateway.refused_request(self.client.address, error)
        self._let_go()
        self._answer_or_abort(error.status, 0, error.reason)

    def pause_response(self) -> None:
        """The client takes no more for now."""
        if self._connection is not None:
            self._connection.pause_reading()

    def resume_response(self) -> None:
        """It takes more again."""
        if self._connection is not None:
            self._connection.resume_reading()

    def cancel(self) -> None:
        """The client is gone. Nobody reads an answer: stop asking for it."""
        self._let_go()
        if not self.responding:
            self.status = CLIENT_CLOSED
        self._gateway.finished(self)

    # The response, from upstream.

    def response_informational(self, head: ResponseHead) -> None:
        """A 1xx of upstream: passed on."""
        self._downstream.send_informational(forwarding.response(head, None))

    def response_whole(self, head: ResponseHead, content: bytes) -> None:
        """Upstream's final response, all of it: most responses come in one segment."""
        if self._connection is not None:
            self.asked = self._connection.asked
            self._connection = None
        if self.head.upgrade and self._is_false_agreement(head):
            return
        self.status = head.status
        self.sent = len(content)
        gateway = self._gateway
        head = forwarding.response(head, gateway.hsts(self))
        gateway.finished(self)
        self._downstream.send_whole(head, content)

    def response_head(self, head: ResponseHead) -> None:
        """Upstream's final response begins."""
        if self.head.upgrade and self._is_false_agreement(head):
            return
        self.responding = True
        self.status = head.status
        connection, site = self._connection, self.site
        if connection is not None and connection.asked and site is not None:
            site.counts.first_byte(self._gateway.now() - connection.asked)
        self._downstream.send_head(forwarding.response(head, self._gateway.hsts(self)))

    def _is_false_agreement(self, head: ResponseHead) -> bool:
        """Whether this answer to a handshake has just become a 502: upstream did not switch, and to
        HTTP/2 its 2xx would say that the WebSocket is open (RFC 8441 5)."""
        if self.head.version != 20 or head.status >= 300:
            return False
        self._let_go()
        self._fault(ProtocolError(502, "a 2xx to a WebSocket handshake, where only a 101 agrees"))
        return True

    def response_content(self, data: bytes) -> None:
        """Some of its content."""
        self.sent += len(data)
        self._downstream.send_content(data)

    def response_end(self, trailers: Fields) -> None:
        """It is complete."""
        self._connection = None
        self._gateway.finished(self)
        self._downstream.send_end(forwarding.trailers(trailers) if trailers else trailers)

    def response_flush(self) -> None:
        """One segment of upstream has all been told."""
        self._downstream.flush()

    def response_switching(self, head: ResponseHead, early: bytes) -> None:
        """Upstream agreed to the upgrade: the two connections leave HTTP."""
        connection, self._connection = self._connection, None
        assert connection is not None
        self.responding = True
        self.status = 101
        self.sent = len(early)
        head = forwarding.response(head, self._gateway.hsts(self))
        # A WebSocket may stay for days: what only HTTP needs is not kept so long.
        self.head = self.head.summary()
        downstream = self._downstream
        del self._downstream
        downstream.switch(head, early, connection.transport)

    def upstream_failed(self, error: UpstreamError | ProtocolError) -> None:
        """The connection broke, or what came from it is not HTTP."""
        connection, self._connection = self._connection, None
        if connection is not None and self._may_retry(connection, error):
            assert self.site is not None
            self.site.counts.retries += 1
            self.site.pool.cut(connection.server)
            self._lease(fresh=True)
        else:
            self._fault(error)

    def _may_retry(self, connection: Connection, error: Exception) -> bool:
        """A reused connection that gave no byte: upstream closed it while the request was on its
        way (RFC 9110 9.2.2). The request must be one that may be repeated, and still be here: no
        content came yet (there is none, or the client waits for a 100), or all of it is held.
        Where there is another server, also on a new connection: this one has died, perhaps."""
        assert self.site is not None
        return (
            isinstance(error, ConnectionCut)
            and (connection.reused or len(self.site.pool.servers) > 1)
            and connection.silent
            and self._tries <= self._gateway.retries
            and self.head.method in REPLAYABLE
            and (self.received == 0 or (self._ended and self._content is not None))
        )

    def pause_request(self) -> None:
        """Upstream takes no more for now."""
        self._downstream.pause_reading()

    def resume_request(self) -> None:
        """It takes more again."""
        self._downstream.resume_reading()

    # Answers made here.

    def answer(self, head: ResponseHead, content: bytes) -> None:
        """Answer the request with this; the access line says so."""
        self.status = head.status
        self.responding = True
        hsts = self._gateway.hsts(self)
        if hsts:
            head.fields.append((b"strict-transport-security", hsts))
        if self.head.method == b"HEAD":
            head.length = 0
            content = b""
        self.sent = len(content)
        self._gateway.finished(self)
        self._downstream.send_whole(head, content)

    def _fault(self, error: UpstreamError | ProtocolError) -> None:
        if isinstance(error, ProtocolError):
            error = from_upstream(error)
        status, retry_after = status_of(error)
        self._gateway.upstream_fault(self, error, status)
        self._answer_or_abort(status, retry_after, "")

    def _answer_or_abort(self, status: int, retry_after: int, detail: str) -> None:
        if self.responding:
            # It has begun: the only honest end is one that shows.
            self._gateway.finished(self)
            self._downstream.abort()
            return
        self._gateway.answer_page(self, status, retry_after, detail)

    def _let_go(self) -> None:
        """Give up the lease, or the wait for one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        elif self._leasing and self.site is not None:
            self._leasing = False
            self.site.pool.forget_waiter(self)
