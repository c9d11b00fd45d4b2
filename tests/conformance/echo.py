"""A WebSocket server that echoes each message, strict: autobahn, in a process of its own.

    python -m tests.conformance.echo

What it answers to a frame does not depend on where the octets before it were cut. Under /limited
messages have LIMIT octets at most. Prints "listening PORT", and ends with SIGTERM.
"""

# mypy: disable-error-code="no-untyped-call, misc"

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from autobahn.websocket.types import ConnectionRequest
from twisted.internet import reactor as global_reactor

LOOPBACK = "127.0.0.1"
LIMIT = 1000  # octets


class Echo(WebSocketServerProtocol):
    """One WebSocket."""

    def onConnect(self, request: ConnectionRequest) -> None:
        if request.path == "/limited":
            self.maxMessagePayloadSize = self.maxFramePayloadSize = LIMIT

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload, isBinary)

    def _closeConnection(self, abort: bool = False) -> None:
        # A reset would take the Close away from who did not read it yet: at random, that is.
        self.transport.loseConnection()


def accept(offers: Sequence[object]) -> PerMessageDeflateOfferAccept | None:
    """The first offer, as it is."""
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer)
    return None


def main() -> None:
    """Listen, say where, serve."""
    reactor: Any = global_reactor
    factory = WebSocketServerFactory(reactor=reactor)
    factory.protocol = Echo
    factory.setProtocolOptions(
        failByDrop=False,  # the closing handshake says what was wrong
        echoCloseCodeReason=True,
        closeHandshakeTimeout=3,  # of who sent what looks like half a frame
        openHandshakeTimeout=30,
        autoPingInterval=0,
        tcpNoDelay=True,
        utf8validateIncoming=True,
        perMessageCompressionAccept=accept,
    )
    port = reactor.listenTCP(0, factory, interface=LOOPBACK)
    reactor.callWhenRunning(print, "listening", port.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
