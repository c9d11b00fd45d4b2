"""Dialling over real sockets: plain and TLS, good and bad, and what is tried anew every time."""

from __future__ import annotations

import os
import socket
import tempfile
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet import error, reactor
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from authproxy.settings import Upstream
from authproxy.transport import octets
from authproxy.transport.dialling import DialTimeout, TransportReactor, dial
from authproxy.transport.dispatch import Dispatcher
from authproxy.transport.resolving import Names
from authproxy.transport.sessions import Sessions
from authproxy.transport.stream import Stream, TCPClient, UNIXClient
from authproxy.upstream_tls import UpstreamTLS, VerificationError

PATIENCE = 60  # seconds


class Echo(Protocol):
    """Upstream."""

    factory: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"you said " + data)  # type: ignore[union-attr]

    def connectionLost(self, reason: object = None) -> None:
        self.factory.lost += 1
        ended, self.factory.ended = self.factory.ended, None
        if ended is not None:
            ended.callback(None)


class Echoes(Factory):
    """Upstream's factory: how many connections it saw, and the end of the next that ends."""

    protocol = Echo  # type: ignore[assignment]
    noisy = False

    def __init__(self) -> None:
        self.lost = 0
        self.ended: Deferred[None] | None = Deferred()
        self.hello: Deferred[None] = Deferred()


class Said(Protocol):
    """The proxy's end, once it is connected."""

    def __init__(self, transport: Stream) -> None:
        self.heard: Deferred[bytes] = Deferred()
        self.lost: Deferred[None] = Deferred()
        transport.protocol = self
        self.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        self.heard.callback(data)

    def connectionLost(self, reason: object = None) -> None:
        self.lost.callback(None)


class _Tests(TestCase):
    timeout = 2 * PATIENCE

    def setUp(self) -> None:
        real: Any = reactor
        self.reactor = real
        dispatcher = Dispatcher()
        dispatcher.attach(real)
        self.addCleanup(dispatcher.close)
        self.clock = Clock()
        self.view = TransportReactor(real, dispatcher)

    def listen(self, context: SSL.Context | None = None) -> int:
        """Upstream listens; its port."""
        self.echoes = Echoes()
        if context is None:
            port = self.reactor.listenTCP(0, self.echoes, interface="127.0.0.1")
        else:
            port = self.reactor.listenSSL(0, self.echoes, _Given(context), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    def dial(
        self, number: int, tls: Any = None, host: str = "127.0.0.1", tls_timeout: float = PATIENCE
    ) -> Deferred[Stream]:
        upstream = Upstream("https" if tls else "http", "tcp", host, number)
        sessions = Sessions(tls, self.clock.seconds) if tls else None
        return dial(self.view, upstream, sessions, timeout=PATIENCE, tls_timeout=tls_timeout)

    @inlineCallbacks
    def converse(self, transport: Stream) -> Any:
        """A word there and back, and the end."""
        said = Said(transport)
        transport.write(b"hello")
        heard = yield said.heard
        self.assertEqual(heard, b"you said hello")
        transport.loseConnection()
        yield said.lost
        yield self.echoes.ended


@implementer(IOpenSSLServerConnectionCreator)
class _Given:
    """What listenSSL makes connections with."""

    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return SSL.Connection(self.context, None)


class PlainTests(_Tests):
    @inlineCallbacks
    def test_tcp(self) -> Any:
        transport = yield self.dial(self.listen())
        self.assertIsInstance(transport, TCPClient)
        self.assertTrue(transport.getTcpNoDelay())
        yield self.converse(transport)

    @inlineCallbacks
    def test_unix(self) -> Any:
        # Not mktemp: its path can be too long for a socket (108 bytes).
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = os.path.join(directory.name, "authentik.sock")
        self.echoes = Echoes()
        port = self.reactor.listenUNIX(path, self.echoes)
        self.addCleanup(port.stopListening)
        upstream = Upstream("http", "unix", path=path)
        transport = yield dial(self.view, upstream, None, timeout=PATIENCE, tls_timeout=PATIENCE)
        self.assertIsInstance(transport, UNIXClient)
        yield self.converse(transport)

    @inlineCallbacks
    def test_refused(self) -> Any:
        port = self.reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        number = port.getHost().port
        yield port.stopListening()
        yield self.assertFailure(self.dial(number), error.ConnectionRefusedError)

    @inlineCallbacks
    def test_no_such_unix_socket(self) -> Any:
        upstream = Upstream("http", "unix", path="/nonexistent/authentik.sock")
        dialling = dial(self.view, upstream, None, timeout=10, tls_timeout=10)
        yield self.assertFailure(dialling, error.ConnectError)

    @inlineCallbacks
    def test_a_name_is_resolved_every_time(self) -> Any:
        """authentik's container gets another address when it is started anew."""
        asked = self.resolve({"authentik.example": "127.0.0.1"})
        number = self.listen()
        for _ in range(2):
            self.echoes.ended = Deferred()
            transport = yield self.dial(number, host="authentik.example")
            self.assertIs(transport.reactor, self.view)  # and not what was made for this dial
            yield self.converse(transport)
        self.assertEqual(asked, ["authentik.example"] * 2)

    @inlineCallbacks
    def test_a_name_that_does_not_resolve(self) -> Any:
        self.resolve({})
        yield self.assertFailure(self.dial(1, host="authentik.example"), error.DNSLookupError)

    def resolve(self, names: dict[str, str]) -> list[str]:
        """Only these have an address. Returns who was asked for."""
        asked = []

        def getaddrinfo(host: str, port: int, **hints: Any) -> Any:
            asked.append(host)
            if host not in names:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return socket.getaddrinfo(names[host], port, **hints)

        self.view.names = Names(self.reactor, getaddrinfo)
        return asked


class TLSTests(_Tests):
    def setUp(self) -> None:
        super().setUp()
        self.ca = trustme.CA()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.ca_path = os.path.join(directory.name, "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_path)

    def context(self, name: str = "authentik.example") -> SSL.Context:
        context = SSL.Context(SSL.TLS_METHOD)
        self.ca.issue_cert(name).configure_cert(context)
        return context

    def tls(self, mode: str = "ca", name: str = "authentik.example") -> UpstreamTLS:
        return UpstreamTLS(mode, self.ca_path if mode == "ca" else "", name)

    @inlineCallbacks
    def test_verified(self) -> Any:
        transport = yield self.dial(self.listen(self.context()), self.tls())
        self.assertIsNotNone(transport.getPeerCertificate())
        yield self.converse(transport)

    @inlineCallbacks
    def test_another_name(self) -> Any:
        """Nothing is sent, and the connection is gone."""
        number = self.listen(self.context("other.example"))
        failure = yield self.assertFailure(self.dial(number, self.tls()), VerificationError)
        self.assertIn("other.example", str(failure))
        self.assertIn('upstream_verify = "off"', str(failure))
        yield self.echoes.ended

    @inlineCallbacks
    def test_another_ca(self) -> Any:
        number = self.listen(self.context())
        self.ca = trustme.CA()
        self.ca.cert_pem.write_to_path(self.ca_path)
        yield self.assertFailure(self.dial(number, self.tls()), VerificationError)
        yield self.echoes.ended

    @inlineCallbacks
    def test_off(self) -> Any:
        number = self.listen(self.context("other.example"))
        transport = yield self.dial(number, self.tls("off"))
        yield self.converse(transport)

    @inlineCallbacks
    def test_key_exchange(self) -> Any:
        """Post-quantum, except where nothing is verified: see upstream_tls."""
        known = octets.limit_groups(SSL.Connection(self.context()), b"X25519MLKEM768")
        number = self.listen(self.context())
        for mode, group in (("ca", "X25519MLKEM768" if known else "X25519"), ("off", "X25519")):
            transport = yield self.dial(number, self.tls(mode))
            self.assertEqual(transport.tls.get_group_name().upper(), group)
            self.echoes.ended = Deferred()
            yield self.converse(transport)

    @inlineCallbacks
    def test_unknown_groups_change_nothing(self) -> Any:
        tls = self.tls()
        tls.groups = b"X25519:of-the-future"
        transport = yield self.dial(self.listen(self.context()), tls)
        yield self.converse(transport)

    @inlineCallbacks
    def test_plain_http_upstream(self) -> Any:
        """authentik's port 9000 with https:// in front of it: the error that explain() knows."""
        number = self.listen()
        self.echoes.protocol = HTTPOnly  # type: ignore[assignment]
        failure = yield self.assertFailure(self.dial(number, self.tls()), SSL.Error)
        words = str(failure)
        self.assertTrue("wrong version number" in words or "packet length too long" in words, words)
        yield self.echoes.ended

    @inlineCallbacks
    def test_upstream_that_hangs_up(self) -> Any:
        number = self.listen()
        self.echoes.protocol = HangUp  # type: ignore[assignment]
        dialling = self.dial(number, self.tls())
        yield self.assertFailure(dialling, SSL.SysCallError, error.ConnectionLost)

    @inlineCallbacks
    def test_silent_upstream(self) -> Any:
        """The deadline is a clock's: this test takes no time."""
        number = self.listen()
        self.echoes.protocol = Silent  # type: ignore[assignment]
        self.view.callLater = _first_on(self.clock, 5, self.view.callLater)
        dialling = self.dial(number, self.tls(), tls_timeout=5)
        yield self.echoes.hello
        self.clock.advance(4.9)
        self.assertNoResult(dialling)
        self.clock.advance(0.2)
        yield self.assertFailure(dialling, DialTimeout)
        yield self.echoes.ended

    @inlineCallbacks
    def test_session_that_upstream_does_not_take(self) -> Any:
        """Whether it hangs up or says nothing: the next handshake begins anew."""
        for protocol, seconds, reason in (
            (HangUp, PATIENCE, error.ConnectionLost), (Silent, 0.2, DialTimeout),
        ):  # fmt: skip
            sessions = Forgetful(self.tls(), self.clock.seconds)
            number = self.listen()
            self.echoes.protocol = protocol  # type: ignore[assignment]
            upstream = Upstream("https", "tcp", "127.0.0.1", number)
            dialling = dial(self.view, upstream, sessions, timeout=PATIENCE, tls_timeout=seconds)
            yield self.assertFailure(dialling, reason, SSL.SysCallError)
            self.assertTrue(sessions.forgot)

    @inlineCallbacks
    def test_cancelled_during_the_handshake(self) -> Any:
        number = self.listen()
        self.echoes.protocol = Silent  # type: ignore[assignment]
        dialling = self.dial(number, self.tls())
        yield self.echoes.hello
        dialling.cancel()
        yield self.assertFailure(dialling, CancelledError)
        yield self.echoes.ended


class Forgetful(Sessions):
    """It says whether it forgot since the last connection began."""

    def connection(self, sock: Any) -> SSL.Connection:
        connection = super().connection(sock)
        self.forgot = False
        return connection

    def forget(self) -> None:
        super().forget()
        self.forgot = True


class HTTPOnly(Echo):
    """Upstream that takes a ClientHello for a bad request."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # type: ignore[union-attr]


class HangUp(Echo):
    """Upstream that closes at once."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.loseConnection()  # type: ignore[union-attr]


class Silent(Echo):
    """Upstream that accepts and says nothing."""

    def dataReceived(self, data: bytes) -> None:
        self.factory.hello.callback(None)


def _first_on(clock: Clock, seconds: float, otherwise: Any) -> Any:
    """A callLater that puts calls of this delay on a clock."""

    def call_later(delay: float, *rest: Any) -> Any:
        return (clock.callLater if delay == seconds else otherwise)(delay, *rest)

    return call_later
