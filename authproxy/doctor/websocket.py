"""Owns a real WebSocket on /ws/client/: handshake, ping, close. RFC 6455 is autobahn's.

autobahn's protocol is fed by hand from a blocking stream: no reactor runs, and a Clock stands where
it wants one.
"""

# mypy: disable-error-code="no-untyped-call, misc"
# autobahn says that it is typed; much of it is not, and a base class without types is "misc".

from __future__ import annotations

import os
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from txaio import tx

from .requests import FAULTS, USER_AGENT
from .results import Result, failed, ok, warning
from .stream import PIECE, Stream, words_of
from .target import Target

WEBSOCKET = "websocket"
PATH = "/ws/client/"
NORMAL = 1000  # the close code


class Wire:
    """What autobahn asks of a transport, on a stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.closed = False

    def write(self, data: bytes) -> None:
        self._stream.sendall(data)

    def loseConnection(self) -> None:
        self.closed = True

    abortConnection = loseConnection

    def setTcpNoDelay(self, enabled: bool) -> None:
        """There is nothing to send soon after something."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Whatever is sent is sent at once."""

    def unregisterProducer(self) -> None:
        """There is none."""

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", self._stream.peer, 0)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", self._stream.source, 0)


class Socket(WebSocketClientProtocol):
    """Pings once it is open, and closes when that came back."""

    log = tx.make_logger(level="none")
    opened = answered = False
    payload = b""

    def onOpen(self) -> None:
        self.opened = True
        self.payload = os.urandom(8)
        self.sendPing(self.payload)

    def onPong(self, payload: bytes) -> None:
        if payload == self.payload:
            self.answered = True
            self.sendClose(NORMAL)


def converse(
    stream: Stream, authority: str, path: str, *fields: tuple[str, str]
) -> tuple[int, str]:
    """The status of the handshake, and what went wrong ("" for nothing). Raises FAULTS.

    A fault after the handshake comes with status 101.
    """
    factory = WebSocketClientFactory(
        f"wss://{authority}{path}", origin=f"https://{authority}", useragent=USER_AGENT,
        headers=dict(fields), reactor=Clock(),
    )  # fmt: skip
    factory.protocol = Socket
    factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0, autoPingInterval=0)
    wire = Wire(stream)
    socket: Any = factory.buildProtocol(None)
    received = b""
    socket.makeConnection(wire)
    try:
        while not wire.closed and socket.remoteCloseCode is None and (data := stream.recv(PIECE)):
            if not socket.opened:
                received += data
            socket.dataReceived(data)
    except TimeoutError:
        if not socket.opened:
            raise
    if socket.opened:
        return 101, "" if socket.answered else "nothing came back on it: a ping got no answer"
    return _status(received), str(socket.wasNotCleanReason or "the connection was closed")


def check(target: Target) -> list[Result]:
    """As a browser opens it."""
    path = target.path + PATH
    try:
        with target.connect() as stream:
            status, fault = converse(stream, target.authority, path)
    except FAULTS as e:
        return [
            failed(
                WEBSOCKET, f"{path}: {words_of(e)}",
                *_dropped(target),
            )
        ]  # fmt: skip
    if status == 101 and not fault:
        return [ok(WEBSOCKET, f"{path} opens, answers a ping and closes")]
    return [verdict(target, path, status, fault)]


def verdict(target: Target, path: str, status: int, fault: str) -> Result:
    """What a handshake that failed means."""
    words = f"{path} is {status} instead of 101"
    if status == 101:
        return failed(
            WEBSOCKET, f"{path} is 101, but {fault}",
            "Something in front answers the handshake itself, or holds back what comes after it."
            " Switch WebSockets on there, and buffering off.",
        )  # fmt: skip
    if status == 403:
        return failed(
            WEBSOCKET, f"{words}: authentik refuses the handshake",
            "The proxy relays authentik's answer. Cure the checks named scheme and host first; then"
            " authentik's log says why:",
            "    docker compose logs server | grep /ws/client/",
        )  # fmt: skip
    if status == 421:
        return failed(WEBSOCKET, words, f"No site has {target.host}: add it to hosts in [[site]].")
    if status in (502, 503, 504):
        return warning(
            WEBSOCKET, f"{words}: authentik is not reached",
            "Cure the checks named live and ready first.",
        )  # fmt: skip
    return failed(
        WEBSOCKET, f'{words}: "Connection error, reconnecting" in the interface', *_dropped(target)
    )


def _dropped(target: Target) -> tuple[str, ...]:
    return (
        "The handshake's Upgrade field is lost: something between this machine and authentik does"
        " not pass WebSockets. authproxy passes them; a proxy in front of it, or behind it, must"
        " too. nginx:",
        "    proxy_http_version 1.1;\n    proxy_set_header Upgrade $http_upgrade;\n"
        '    proxy_set_header Connection "upgrade";',
        "Cloudflare: Network > WebSockets. Past what is in front:"
        f" authproxy doctor {target.url} --connect ADDRESS-OF-AUTHPROXY",
    )


def _status(data: bytes) -> int:
    parts = data.split(None, 2)
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() and len(parts[1]) == 3 else 0
