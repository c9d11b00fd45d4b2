"""What went wrong with a dial, in words with a cure; and a pooled connection from a real dial."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet import error, reactor
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from authproxy.deadlines import Deadlines
from authproxy.errors import ConnectFailed, NotVerified, Starved, TimedOut
from authproxy.settings import Limits, PoolSettings, Timeouts, Upstream
from authproxy.transport.dialling import DialTimeout, TransportReactor
from authproxy.transport.resolving import NameTimeout
from authproxy.upstream.connection import Connection
from authproxy.upstream.dialler import Dialler, explain
from authproxy.upstream.pool import Pool
from authproxy.upstream.server import Server
from authproxy.upstream_tls import VerificationError

NAME = "https://10.0.0.5:9443"


class ExplainTests(SynchronousTestCase):
    def test_table(self) -> None:
        wrong_version = SSL.Error([("SSL routines", "", "wrong version number")])
        long_packet = SSL.Error([("SSL routines", "", "packet length too long")])
        alert = SSL.Error([("SSL routines", "", "tlsv1 unrecognized name")])
        for reason, kind, *words in (
            (error.ConnectionRefusedError(), ConnectFailed, "nothing listens", "Is authentik"),
            (error.DNSLookupError(), ConnectFailed, "does not resolve"),
            (NameTimeout("x"), ConnectFailed, "not resolved in time", "timeouts.connect", "DNS"),
            (error.TimeoutError(), ConnectFailed, "timeouts.connect", "firewall"),
            (error.UserError(), ConnectFailed, "timeouts.connect"),
            (error.NoRouteError(), ConnectFailed, "cannot connect"),
            (
                error.getConnectError((101, "x")),
                ConnectFailed,
                f"{NAME}: Network is unr",
                "ip route",
            ),
            (error.getConnectError((113, "x")), ConnectFailed, f"{NAME}: No route to host. Corr"),
            (error.getConnectError((2, "x")), ConnectFailed, "No such file or dir", "the path"),
            (error.getConnectError((13, "x")), ConnectFailed, "Permission denied. Let the user"),
            (OSError(1, "odd"), ConnectFailed, "cannot connect", "odd"),
            (error.ConnectBindError(24, "Too many"), Starved, "Too many open files", "LimitNOFILE"),
            (OSError(12, "none"), Starved, "Cannot allocate memory"),
            (CancelledError(), ConnectFailed, "stopping"),
            (error.ConnectingCancelledError(None), ConnectFailed, "stopping"),
            (wrong_version, ConnectFailed, "does not speak TLS", "http://", "9000", "9443"),
            (long_packet, ConnectFailed, "does not speak TLS"),
            (SSL.SysCallError(-1, "Unexpected EOF"), ConnectFailed, "closed the connection"),
            (alert, ConnectFailed, "handshake", "unrecognized name"),
            (DialTimeout("late"), TimedOut, "TLS handshake in time"),
            (None, ConnectFailed, "cannot connect"),
        ):
            explained = explain(reason, NAME)
            self.assertIs(type(explained), kind, reason)
            for word in words:
                self.assertIn(word, str(explained))

    def test_which_upstream(self) -> None:
        for reason in (
            error.ConnectionRefusedError(),
            error.DNSLookupError(),
            error.TimeoutError(),
            OSError(),
            DialTimeout(),
            SSL.Error([]),
        ):
            self.assertIn(NAME, str(explain(reason, NAME)))

    def test_verification_keeps_its_cures_and_is_a_502(self) -> None:
        words = 'not accepted:\n    upstream_verify = "off"'
        explained = explain(VerificationError(words), NAME)
        self.assertIsInstance(explained, NotVerified)
        self.assertEqual((explained.status, str(explained)), (502, words))


class DialTests(TestCase):
    """Over loopback, on the real reactor."""

    def setUp(self) -> None:
        real: Any = reactor
        self.view = TransportReactor(real, real)
        self.deadlines = Deadlines(Clock(), Clock().seconds)

    def server(self, port: int) -> Server:
        upstream = Upstream("http", "tcp", "127.0.0.1", port)
        self.dialler = Dialler(self.view, {}, self.deadlines, Timeouts(), Limits(buffer=4321))
        pool = Pool((upstream,), PoolSettings(), self.deadlines, self.dialler.dial)
        return pool.servers[0]

    @inlineCallbacks
    def test_open(self) -> Any:
        real: Any = reactor
        port = real.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        server = self.server(port.getHost().port)
        connection = yield self.dialler.dial(server)
        self.assertIsInstance(connection, Connection)
        self.assertIs(connection.transport.protocol, connection)
        self.assertEqual(connection.transport.bufferSize, 4321)
        self.assertEqual((connection.server, connection.requests), (server, 0))
        closed: Deferred[None] = Deferred()
        connection.transport.closed = lambda: closed.callback(None)
        connection.close()
        yield closed

    @inlineCallbacks
    def test_refused(self) -> Any:
        real: Any = reactor
        port = real.listenTCP(0, Factory(), interface="127.0.0.1")
        number = port.getHost().port
        yield port.stopListening()
        failure = yield self.assertFailure(self.dialler_dial(number), ConnectFailed)
        self.assertIn(f"nothing listens at http://127.0.0.1:{number}", str(failure))

    def dialler_dial(self, number: int) -> Deferred[Connection]:
        server = self.server(number)
        return self.dialler.dial(server)
