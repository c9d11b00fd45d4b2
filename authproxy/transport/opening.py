"""Owns the first moments of an accepted connection, before there is HTTP on it.

Accepted -> (PROXY header) -> (TLS handshake) -> the HTTP connection that `Listener.build` makes.
Each arrow has a deadline. What goes wrong here is counted by reason and never reaches HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet import protocol
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure

from ..deadlines import NEVER, Deadlines
from ..saying import CLIENT
from ..trust import UNIX_PEER, normal_address
from ..wire.errors import ProtocolError
from . import octets, proxy_header
from .admission import Admission
from .peeking import peek_header
from .stream import Stream

PLAIN_ON_TLS = b"This port speaks HTTPS: use https:// instead of http://.\n"
# How failed handshakes are counted, by what OpenSSL says of them: the first that fits.
PLAIN_HTTP = "plain HTTP on the TLS port"
TOO_OLD = "TLS: no common version"
NOT_TLS = "TLS: not TLS"
REFUSED = "TLS: the client refused the certificate"
CLOSED = "TLS: closed before its end"
_FAULTS = (
    ("http request", PLAIN_HTTP),
    ("HTTP request", PLAIN_HTTP),
    ("unsupported protocol", TOO_OLD),
    ("no protocols available", TOO_OLD),
    ("wrong version number", NOT_TLS),
    ("packet length too long", NOT_TLS),
    ("no shared cipher", "TLS: no common cipher"),
    ("no suitable", "TLS: no common cipher"),
    ("alert bad certificate", REFUSED),
    ("alert certificate", REFUSED),
    ("alert unknown ca", REFUSED),
    ("Unexpected EOF", CLOSED),
    ("unexpected eof", CLOSED),
    ("Connection reset", CLOSED),
    ("ECONNRESET", CLOSED),
)


class ServerTLS(Protocol):
    """Makes the server side of a TLS connection (certificates.ServerNames)."""

    def connection(self, sock: Any) -> SSL.Connection:
        """An OpenSSL connection in accept state, bound to this socket."""


@dataclass
class Listener:
    """What all connections of one listening socket share.

    `build` makes the HTTP protocol of an opened connection. Timeouts are seconds. `say` is
    saying.Sayings.say. Whatever is set anew holds for the connections that are accepted from then
    on. `handshakes` (by TLS version, protocol and whether the session is new, joined by tabs) and
    `failures` are counts; several listeners may share them.
    """

    build: Callable[[Opening], IProtocol]
    admission: Admission
    deadlines: Deadlines
    tls: ServerTLS | None
    proxy_protocol_from: Callable[[str], bool] = lambda peer: False
    handshake_timeout: float = 10.0
    header_timeout: float = 3.0
    say: Callable[..., None] = field(default=lambda *_, **__: None)
    handshakes: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)

    def failed(self, reason: str, message: str = "", detail: str = "") -> None:
        """Count a connection that never became HTTP, and say what is worth it.

        `detail` is for those who look for one client's fault, at level debug.
        """
        self.failures[reason] = self.failures.get(reason, 0) + 1
        if message:
            self.say(message, reason, side=CLIENT)
        elif detail:
            self.say(f"{reason}: {detail}", f"{reason}, in detail", side=CLIENT, level="debug")

    # A factory as far as twisted.internet.tcp.Port needs one.

    def doStart(self) -> None:
        """The port listens."""

    def doStop(self) -> None:
        """The port is closed."""

    def logPrefix(self) -> str:
        """How the port is named in Twisted's log."""
        return "https listener" if self.tls else "http listener"

    def opening(self, host: str | None) -> Opening:
        """The protocol that a fresh connection begins with. `host` is the peer's textual address,
        None on a unix socket."""
        return Opening(self, host)


class Opening(protocol.Protocol):
    """One accepted connection until it is HTTP.

    After that `peer` (the client's textual address, or "unix:"), `nameless` (it relays for somebody
    whom its PROXY header does not name), `secure`, `proven()` and those of tunnels are what the
    HTTP connection has of it.
    """

    transport: Stream

    def __init__(self, listener: Listener, host: str | None) -> None:
        self.peer = UNIX_PEER if host is None else normal_address(host) or host.partition("%")[0]
        self.nameless = False
        self.secure = listener.tls is not None
        self.deadline = NEVER
        self._listener = listener
        self._key: str | None = None

    def connectionMade(self) -> None:
        """Accepted."""
        listener = self._listener
        listener.admission.enter()
        self.transport.closed = self._closed
        listener.deadlines.add(self)
        if listener.proxy_protocol_from(self.peer):
            self.deadline = listener.deadlines.now() + listener.header_timeout
            peek_header(self.transport, self._header)
        else:
            self._peer_known()

    def _header(self, data: bytes) -> int | None:
        try:
            header = proxy_header.parse(data)
        except ProtocolError as e:
            self._listener.failed(
                "bad PROXY header",
                f"A connection from {self.peer} was closed: {e.reason}. listen.proxy_protocol_from"
                " names this address, so it must begin with a PROXY header.",
            )
            self.transport.abortConnection()
            return None
        if header is None:
            return None
        if header.source is not None:
            self.peer = normal_address(header.source) or self.peer
        else:
            self.nameless = not header.local
        self._peer_known()
        return header.length

    def _peer_known(self) -> None:
        listener = self._listener
        self._key = listener.admission.begin(self.peer)
        if self._key is None:
            listener.failed("too many unproven connections of one address", detail=self.peer)
            self.transport.abortConnection()
        elif listener.tls is None:
            self._opened()
        else:
            self.deadline = listener.deadlines.now() + listener.handshake_timeout
            self.transport.start_tls(listener.tls.connection(self.transport.socket), self)

    def handshake_completed(self) -> None:
        """TLS is there."""
        transport, handshakes = self.transport, self._listener.handshakes
        tls, protocol = transport.tls, transport.negotiatedProtocol or b"none"
        if tls is not None:
            session = "resumed" if octets.resumed(tls) else "new"
            key = f"{tls.get_protocol_version_name()}\t{protocol.decode()}\t{session}"
            handshakes[key] = handshakes.get(key, 0) + 1
        self._opened()

    def handshake_failed(self, reason: Exception) -> None:
        """It is not. Plain HTTP gets an answer that it can read; the rest is only counted."""
        words = str(reason)
        kind = next((kind for part, kind in _FAULTS if part in words), "TLS: other")
        detail = f"{self.peer}, {words or 'the connection was cut'}"
        self._listener.failed(kind, self._hint(kind), detail)
        if kind == PLAIN_HTTP:
            with suppress(OSError):
                self.transport.socket.send(
                    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n"
                    b"date: %b\r\ncontent-length: %d\r\n\r\n%b"
                    % (formatdate(usegmt=True).encode(), len(PLAIN_ON_TLS), PLAIN_ON_TLS)
                )

    def _hint(self, kind: str) -> str:
        """What an operator should know of a failed handshake; "" for what scanners do all day."""
        if kind == TOO_OLD:
            return (
                f"A client at {self.peer} is older than tls.minimum_version allows."
                ' minimum_version = "1.2" lets it in.'
            )
        if kind == NOT_TLS:
            return (
                f"What came from {self.peer} is not TLS. If that is a load balancer which sends a"
                " PROXY header, name it in listen.proxy_protocol_from."
            )
        return ""

    def _opened(self) -> None:
        self._listener.deadlines.discard(self)
        connection = self._listener.build(self)
        # From here on the transport knows the HTTP connection only.
        self.transport.protocol = connection
        connection.makeConnection(self.transport)

    def proven(self) -> None:
        """A request was answered: this connection no longer counts against its address."""
        if self._key is not None:
            self._listener.admission.end(self._key)
            self._key = None

    def begin_tunnel(self) -> bool:
        """A stream of it becomes a WebSocket; False: there is no room for that."""
        return self._listener.admission.begin_tunnel()

    def end_tunnel(self) -> None:
        """One of them is over."""
        self._listener.admission.end_tunnel()

    def deadline_passed(self, now: float) -> None:
        """Neither header nor handshake came in time."""
        self._listener.failed("no PROXY header or TLS handshake in time", detail=self.peer)
        self.deadline = NEVER
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Over before it was HTTP."""

    def _closed(self) -> None:
        # Whatever protocol the transport had by then.
        self._listener.deadlines.discard(self)
        self.proven()
        self._listener.admission.leave()
