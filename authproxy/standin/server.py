"""Owns the stand-in's answers over HTTP: health, start-up, the page, echo and streams.

Knows nothing of listeners: the caller gives `StandIn.site` to an endpoint, plain or TLS. What a
request means is page.py's, what follows a 101 is websocket.py's. RFC 9110 as far as Twisted goes.
"""

# mypy: disable-error-code="no-untyped-call"
# Most of what these classes inherit from Twisted has no types.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from ..trust import UNIX_PEER, TrustedNetworks
from .files import file
from .files import page as files_page
from .inquiry import Inquiry
from .page import starting
from .websocket import Sockets

CHUNK = b"0123456789abcdef" * 4096  # 64 KiB, what /stream repeats
RETRY_AFTER = b"5"  # as authentik's
SLOWEST = 60.0  # seconds; the longest /slow
IDLE = 120.0  # seconds; the longest of authentik's three front ends
HEAD_LIMIT = 128 * 1024  # bytes: twice what the proxy has to let through


class Channel(HTTPChannel):
    """HTTP/1.1 with authentik's generous limits; the stand-in knows when it ends."""

    MAX_LENGTH = HEAD_LIMIT
    totalHeadersSize = HEAD_LIMIT

    def connectionMade(self) -> None:
        super().connectionMade()
        self.factory.stand_in.arrived(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.factory.stand_in.left(self)

    def abort(self) -> None:
        """Close now."""
        transport: Any = self.transport
        transport.abortConnection()


class StandInSite(Site):
    """The HTTP factory: HTTP/1.1 only, as a proxy uses it, and no access log of its own."""

    protocol = Channel  # type: ignore[assignment]
    noisy = False

    def __init__(self, stand_in: StandIn, clock: IReactorTime) -> None:
        super().__init__(
            Paths(stand_in, clock),
            Inquiry,
            timeout=IDLE,
            reactor=clock,
            parsePOSTFormSubmission=False,
        )
        self.stand_in = stand_in

    def log(self, request: object) -> None:
        """Nothing: the proxy in front writes the access log."""

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]


@implementer(IPullProducer)
class Streamed:
    """Writes so many bytes, a chunk whenever the connection can take one."""

    def __init__(self, request: Inquiry, length: int) -> None:
        self._request = request
        self._left = length

    def resumeProducing(self) -> None:
        piece = CHUNK[: self._left]
        self._left -= len(piece)
        if piece:
            self._request.write(piece)
        if not self._left:
            self._request.unregisterProducer()
            self._request.finish()

    def stopProducing(self) -> None:
        self._left = 0


class Paths(Resource):
    """Every path and its answer."""

    isLeaf = True

    def __init__(self, stand_in: StandIn, clock: IReactorTime) -> None:
        super().__init__()
        self._stand_in = stand_in
        self._clock = cast(Any, clock)  # to mypy, functions of an interface lack self
        self._paths: dict[bytes, Callable[[Inquiry], int]] = {
            b"/-/health/live/": self._health,
            b"/-/health/ready/": self._health,
            b"/echo": self._echo,
            b"/files": self._files,
            b"/slow": self._slow,
            b"/stream": self._stream,
            b"/ws/client/": self._websocket,
        }

    def render(self, request: Request) -> int:
        inquiry = cast(Inquiry, request)
        inquiry.responseHeaders.removeHeader(b"server")
        inquiry.setHeader(b"cache-control", b"no-store")
        if self._stand_in.starting and inquiry.path != b"/-/health/live/":
            inquiry.setHeader(b"retry-after", RETRY_AFTER)
            return inquiry.answer(503, *starting(inquiry.field(b"accept")))
        if (content := file(inquiry.path)) is not None:
            return inquiry.answer(200, b"text/plain", content)
        return self._paths.get(inquiry.path, self._page)(inquiry)

    def _health(self, request: Inquiry) -> int:
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            return request.answer(405)
        if request.path == b"/-/health/ready/" and not self._stand_in.ready:
            return request.answer(503)
        return request.answer(200)

    def _page(self, request: Inquiry) -> int:
        request.setHeader(b"vary", b"accept")
        if b"application/json" in request.field(b"accept"):
            shown = request.seen().as_json() + b"\n"  # somebody's terminal goes on below it
            return request.answer(200, b"application/json", shown)
        return request.answer(200, b"text/html; charset=utf-8", request.seen().as_html())

    def _files(self, request: Inquiry) -> int:
        return request.answer(200, b"text/html; charset=utf-8", files_page())

    def _echo(self, request: Inquiry) -> int:
        if request.method not in (b"POST", b"PUT"):
            request.setHeader(b"allow", b"POST, PUT")
            return request.answer(405)
        content: Any = request.content
        length = content.seek(0, 2)
        content.seek(0)
        request.setHeader(b"content-type", request.field(b"content-type") or b"text/plain")
        request.setHeader(b"content-length", b"%d" % length)
        request.setHeader(b"x-body-length", b"%d" % length)
        sent = FileSender().beginFileTransfer(content, request)
        # It fails only when the client has left, and then nobody is there to be told.
        sent.addCallbacks(lambda _: request.finish(), lambda _: None)
        return NOT_DONE_YET

    def _stream(self, request: Inquiry) -> int:
        length = request.number(b"bytes", 2.0**53)
        if length is None:
            return request.answer(400, b"text/plain", b"/stream?bytes=N\n")
        request.setHeader(b"content-type", b"application/octet-stream")
        if request.method == b"HEAD" or not int(length):
            request.write(b"")
            request.finish()
        else:
            request.registerProducer(Streamed(request, int(length)), False)
        return NOT_DONE_YET

    def _slow(self, request: Inquiry) -> int:
        seconds = request.number(b"seconds", SLOWEST)
        if seconds is None:
            return request.answer(400, b"text/plain", b"/slow?seconds=S\n")
        content = b"after %g seconds\n" % seconds
        call = self._clock.callLater(seconds, request.answer, 200, b"text/plain", content)
        request.notifyFinish().addErrback(lambda _: _cancel(call))
        return NOT_DONE_YET

    def _websocket(self, request: Inquiry) -> int:
        if request.field(b"upgrade").lower() != b"websocket":
            request.setHeader(b"upgrade", b"websocket")
            return request.answer(426, b"text/plain", b"/ws/client/ is a WebSocket\n")
        if self._stand_in.refused:
            return request.answer(self._stand_in.refused)
        return self._stand_in.upgrade(request)


def _cancel(call: Any) -> None:
    """End a delayed call. That the client has left is nobody's error."""
    call.cancel()


class StandIn:
    """The server. For its first `starting_for` seconds of `clock` it answers as if it started.
    Without `ready` it serves, but says that it is not ready, as without its database.

    `trusted` are the CIDRs whose X-Forwarded-* are believed, None for everybody's. `refused` is a
    status that every WebSocket gets instead of its 101, 0 for none. `site` is the factory for an
    endpoint's listen().
    """

    def __init__(
        self,
        clock: IReactorTime,
        starting_for: float = 0.0,
        *,
        trusted: Sequence[str] | None = None,
        refused: int = 0,
    ) -> None:
        self.ready = True
        self.refused = refused
        self._trusted = None if trusted is None else TrustedNetworks(trusted)
        self._clock = cast(Any, clock)  # to mypy, functions of an interface lack self
        self._ready_at: float = self._clock.seconds() + starting_for
        self._channels: set[Channel] = set()
        self._sockets = Sockets(clock, self._changed)
        self._closed: list[Deferred[None]] = []
        self.site = StandInSite(self, clock)

    @property
    def sockets(self) -> int:
        """The number of open WebSockets."""
        return len(self._sockets)

    @property
    def starting(self) -> bool:
        """Whether authentik would still be starting."""
        now: float = self._clock.seconds()
        return now < self._ready_at

    def trusts(self, peer: str) -> bool:
        """Whether what this peer says of its client is believed; "" is one on a unix socket."""
        return self._trusted is None or self._trusted.contains(peer or UNIX_PEER)

    def close(self) -> Deferred[None]:
        """End timers and connections; fires when the last one is gone. Stop listening before."""
        closed: Deferred[None] = Deferred()
        self._closed.append(closed)
        self._sockets.restart()
        for channel in list(self._channels):
            channel.abort()
        self._changed()
        return closed

    def arrived(self, channel: Channel) -> None:
        """A client has connected."""
        self._channels.add(channel)

    def left(self, channel: Channel) -> None:
        """A connection has ended, or HTTP has on it."""
        self._channels.discard(channel)
        self._changed()

    def upgrade(self, request: Inquiry) -> int:
        """Make a request's connection a WebSocket. Returns what render() has to."""
        self._channels.discard(request.channel)
        return self._sockets.upgrade(request, request.seen().as_json())

    def _changed(self) -> None:
        if not self._channels and not self._sockets:
            closed, self._closed = self._closed, []
            for waiting in closed:
                waiting.callback(None)
