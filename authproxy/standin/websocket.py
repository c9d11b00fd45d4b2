"""Owns the stand-in's WebSockets: the handshake as authentik saw it, a tick a second, an echo.

RFC 6455 and 7692 are autobahn's. Its checks of Host, port and origin are off: whatever the proxy
let through has to arrive here.
"""

# mypy: disable-error-code="no-untyped-call, misc"
# autobahn says that it is typed; much of it is not, and a base class without types is "misc".

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, cast

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from autobahn.websocket.types import ConnectionRequest
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.web.server import Request
from txaio import tx

MESSAGE_LIMIT = 16 * 1024 * 1024  # bytes: far above the 256 KiB frames of remote access
TICK = 1.0  # seconds between two messages on every WebSocket
SERVICE_RESTART = 1012  # the close code when authentik recycles a worker


class Socket(WebSocketServerProtocol):
    """One WebSocket: `handshake` first, then a message at every tick, and everything echoed."""

    log = tx.make_logger(level="none")  # a refused handshake is the client's to report
    sockets: Sockets
    transport: Any
    handshake = b""
    _paused = False
    _closing = False

    def onConnect(self, request: ConnectionRequest) -> str | None:
        """Speak the first subprotocol that the client offers, as the remote-access viewer needs."""
        return request.protocols[0] if request.protocols else None

    def onOpen(self) -> None:
        # What an echo cannot get rid of, it must not read: the producer is this socket's reading.
        self.transport.registerProducer(self, True)
        self.sendMessage(self.handshake)
        self.sockets.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.sockets.closed(self)

    def pauseProducing(self) -> None:
        self._paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is lost; onClose tells."""

    def restart(self) -> None:
        """Close as a recycled worker does; one that does not read is cut."""
        self.sendCloseFrame(code=SERVICE_RESTART, reasonUtf8=b"Service Restart")
        self._closeConnection(abort=self._paused)

    def _closeConnection(self, abort: bool = False) -> None:
        # Twisted's TLS waits for a registered producer before it closes.
        if not self._closing:
            self._closing = True
            self.transport.unregisterProducer()
        super()._closeConnection(abort)


def _accept_deflate(offers: Sequence[object]) -> PerMessageDeflateOfferAccept | None:
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer)
    return None


class Sockets:
    """All WebSockets of a stand-in. `changed` is called whenever one has closed."""

    def __init__(self, clock: IReactorTime, changed: Callable[[], None]) -> None:
        self._clock = cast(Any, clock)  # to mypy, functions of an interface lack self
        self._changed = changed
        self._open: set[Socket] = set()
        self._factory = WebSocketServerFactory(server=None, reactor=clock)
        self._factory.protocol = Socket
        # Twisted has read the whole head before autobahn sees it, and restart() does not wait.
        self._factory.setProtocolOptions(
            allowedOrigins=["*"],
            allowNullOrigin=True,
            closeHandshakeTimeout=0,
            maxMessagePayloadSize=MESSAGE_LIMIT,
            openHandshakeTimeout=0,
            perMessageCompressionAccept=_accept_deflate,
        )
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock

    def __len__(self) -> int:
        return len(self._open)

    def upgrade(self, request: Request, handshake: bytes) -> int:
        """Take the connection of a request. Returns what render() has to."""
        # The HTTP channel is the transport's producer and will never hear of it again.
        transport: Any = request.channel.transport
        transport.unregisterProducer()
        result: int = WebSocketResource(_Introduced(self, handshake)).render(request)
        return result

    def introduce(self, address: Any, handshake: bytes) -> Any:
        """A protocol for one connection."""
        socket: Any = self._factory.buildProtocol(address)
        socket.sockets, socket.handshake = self, handshake
        return socket

    def opened(self, socket: Socket) -> None:
        """A handshake is complete."""
        self._open.add(socket)
        if not self._ticking.running:
            self._ticking.start(TICK, now=False)

    def closed(self, socket: Socket) -> None:
        """A connection is lost, whether or not its handshake was complete."""
        self._open.discard(socket)
        if not self._open and self._ticking.running:
            self._ticking.stop()
        self._changed()

    def restart(self) -> None:
        """Close all of them."""
        for socket in list(self._open):
            socket.restart()

    def _tick(self) -> None:
        now: float = self._clock.seconds()
        count = len(self._open)
        text = f"{count} open WebSocket{'s' * (count > 1)}"
        message = {"time": round(now, 3), "message": text}
        for socket in list(self._open):
            socket.sendMessage(json.dumps(message).encode())


class _Introduced:
    """What autobahn's resource asks for a protocol, for one handshake."""

    def __init__(self, sockets: Sockets, handshake: bytes) -> None:
        self._sockets = sockets
        self._handshake = handshake

    def buildProtocol(self, address: object) -> Any:
        return self._sockets.introduce(address, self._handshake)
