"""From accept to HTTP: PROXY header, TLS, deadlines, counts; over socket pairs."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from authproxy.certificates import ServerNames, server_context
from authproxy.deadlines import RESOLUTION, Deadlines
from authproxy.transport.admission import Admission
from authproxy.transport.dialling import TransportReactor
from authproxy.transport.dispatch import Dispatcher
from authproxy.transport.opening import NOT_TLS, Listener, Opening
from authproxy.transport.stream import TCPServer

from ..handshakes import issue

PAIR = issue("sso.example.com")
HEADER = b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n"
PEER = IPv4Address("TCP", "192.0.2.1", 1)


class HTTP(Protocol):
    """What is built once a connection is open."""

    def __init__(self, opening: Opening) -> None:
        self.opening = opening
        self.received = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.lost = True


class _Tests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.dispatcher = Dispatcher()
        self.addCleanup(self.dispatcher.close)
        self.reactor = TransportReactor(self.clock, self.dispatcher)
        self.deadlines = Deadlines(self.clock, self.clock.seconds)
        self.deadlines.start()
        self.opened: list[HTTP] = []
        self.admission = Admission(100, 2, lambda address: address == "10.0.0.1")

    def listener(self, *, tls: bool = False, proxy: str = "") -> Listener:
        """`proxy` is the one peer that sends a PROXY header."""
        names = ServerNames([((), server_context(PAIR))]) if tls else None
        return Listener(
            build=self.build,
            admission=self.admission,
            deadlines=self.deadlines,
            tls=names,
            proxy_protocol_from=lambda peer: peer == proxy,
            handshake_timeout=10,
            header_timeout=3,
        )

    def build(self, opening: Opening) -> HTTP:
        self.opened.append(HTTP(opening))
        return self.opened[-1]

    def accept(self, listener: Listener, address: Any = PEER) -> socket.socket:
        """A connection was accepted from this address; the client's end."""
        here, there = socket.socketpair()
        self.addCleanup(there.close)
        there.setblocking(False)
        opening = listener.opening(getattr(address, "host", None))
        self.transport = TCPServer(here, opening, ("", 0), None, 1, self.reactor)
        opening.makeConnection(self.transport)
        return there

    def turn(self, turns: int = 20) -> None:
        for _ in range(turns):
            self.dispatcher.doRead()
            self.clock.advance(0)

    def advance(self, seconds: float) -> None:
        self.clock.pump([RESOLUTION] * round(seconds / RESOLUTION))
        self.turn()

    def client_tls(self, sock: socket.socket) -> SSL.Connection:
        connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), sock)
        connection.set_connect_state()
        return connection

    def shake(self, connection: SSL.Connection) -> None:
        """The client's side of a handshake, to its end."""
        for _ in range(50):
            try:
                connection.do_handshake()
                break
            except SSL.WantReadError:
                self.turn(2)
        self.turn()

    def assert_gone(self, there: socket.socket) -> bytes:
        """The connection is closed, and counts nowhere. Returns what came before its end."""
        self.turn()
        received = b""
        try:
            while data := there.recv(4096):
                received += data
        except ConnectionResetError:
            pass
        self.assertEqual((self.admission.open, self.admission._unproven), (0, {}))
        self.assertEqual(len(self.deadlines), 0)
        return received


class PlainTests(_Tests):
    def test_http_at_once(self) -> None:
        there = self.accept(self.listener())
        [http] = self.opened
        self.assertEqual((http.opening.peer, http.opening.secure), ("192.0.2.1", False))
        self.assertIs(self.transport.protocol, http)
        self.assertEqual(len(self.deadlines), 0)
        there.send(b"GET /")
        self.turn()
        self.assertEqual(http.received, b"GET /")

    def test_peers(self) -> None:
        for address, peer in (
            (IPv4Address("TCP", "192.0.2.7", 1), "192.0.2.7"),
            (IPv6Address("TCP", "::ffff:192.0.2.8", 1), "192.0.2.8"),
            (IPv6Address("TCP", "2001:db8::1", 1), "2001:db8::1"),
            (UNIXAddress(None), "unix:"),
        ):
            self.accept(self.listener(), address)
            self.assertEqual(self.opened[-1].opening.peer, peer)

    def test_closed(self) -> None:
        there = self.accept(self.listener())
        self.assertEqual(self.admission.open, 1)
        there.shutdown(socket.SHUT_WR)
        self.assert_gone(there)
        self.assertTrue(self.opened[0].lost)

    def test_too_many_unproven(self) -> None:
        listener = self.listener()
        for _ in range(2):
            self.accept(listener)
        there = self.accept(listener)
        self.assertEqual(len(self.opened), 2)
        self.turn()
        self.assertEqual(there.recv(1), b"")
        self.assertEqual(self.admission.open, 2)
        self.assertEqual(sum(listener.failures.values()), 1)

    def test_proven_ones_do_not_count(self) -> None:
        """An office behind one address may hold thousands of WebSockets."""
        listener = self.listener()
        for _ in range(20):
            self.accept(listener)
            self.opened[-1].opening.proven()
            self.opened[-1].opening.proven()  # once more is no more
        self.assertEqual(len(self.opened), 20)
        self.assertEqual((self.admission.open, self.admission._unproven), (20, {}))

    def test_trusted_proxies_do_not_count(self) -> None:
        listener = self.listener()
        for _ in range(20):
            self.accept(listener, IPv4Address("TCP", "10.0.0.1", 1))
        self.assertEqual(len(self.opened), 20)


class HeaderTests(_Tests):
    def test_whose_connection_it_is(self) -> None:
        there = self.accept(self.listener(proxy="192.0.2.1"))
        self.assertEqual(self.opened, [])
        there.send(HEADER + b"GET /")
        self.turn()
        [http] = self.opened
        self.assertEqual((http.opening.peer, http.received), ("203.0.113.9", b"GET /"))
        self.assertEqual(self.admission._unproven, {"203.0.113.9": 1})

    def test_byte_by_byte(self) -> None:
        there = self.accept(self.listener(proxy="192.0.2.1"))
        for byte in HEADER + b"GET /":
            there.send(bytes([byte]))
            self.turn(3)
        self.assertEqual(self.opened[0].received, b"GET /")

    def test_local_keeps_the_peer(self) -> None:
        there = self.accept(self.listener(proxy="192.0.2.1"))
        there.send(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")
        self.turn()
        self.assertEqual(self.opened[0].opening.peer, "192.0.2.1")

    def test_of_nobody_else(self) -> None:
        """From another peer it is no header, but a bad request."""
        there = self.accept(self.listener(proxy="198.51.100.1"))
        there.send(HEADER)
        self.turn()
        self.assertEqual(self.opened[0].received, HEADER)
        self.assertEqual(self.opened[0].opening.peer, "192.0.2.1")

    def test_missing(self) -> None:
        listener = self.listener(proxy="192.0.2.1")
        there = self.accept(listener)
        there.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assert_gone(there)
        self.assertEqual((self.opened, sum(listener.failures.values())), ([], 1))

    def test_late(self) -> None:
        """The deadline is absolute: drips do not move it."""
        there = self.accept(self.listener(proxy="192.0.2.1"))
        for byte in HEADER[:5]:
            there.send(bytes([byte]))
            self.advance(0.5)
        self.assertEqual(self.admission.open, 1)
        self.advance(1)
        self.assert_gone(there)
        self.assertEqual(self.opened, [])

    def test_closed_before_its_end(self) -> None:
        there = self.accept(self.listener(proxy="192.0.2.1"))
        there.send(HEADER[:9])
        self.turn()
        there.shutdown(socket.SHUT_WR)
        self.assert_gone(there)

    def test_too_many_of_one_client_behind_a_balancer(self) -> None:
        listener = self.listener(proxy="192.0.2.1")
        for _ in range(3):
            there = self.accept(listener)
            there.send(HEADER)
            self.turn()
        self.assertEqual(len(self.opened), 2)

    def test_before_tls(self) -> None:
        there = self.accept(self.listener(tls=True, proxy="192.0.2.1"))
        there.send(HEADER)
        connection = self.client_tls(there)
        self.shake(connection)
        connection.send(b"GET /")
        self.turn()
        [http] = self.opened
        self.assertEqual((http.opening.peer, http.opening.secure), ("203.0.113.9", True))
        self.assertEqual(http.received, b"GET /")


class TLSTests(_Tests):
    def test_http_after_the_handshake(self) -> None:
        there = self.accept(self.listener(tls=True))
        self.turn()
        self.assertEqual(self.opened, [])
        connection = self.client_tls(there)
        self.shake(connection)
        connection.send(b"GET /")
        self.turn()
        [http] = self.opened
        self.assertEqual((http.received, http.opening.secure), (b"GET /", True))
        self.assertEqual(len(self.deadlines), 0)

    def test_late(self) -> None:
        listener = self.listener(tls=True)
        there = self.accept(listener)
        there.send(b"\x16\x03\x01")
        self.advance(9)
        self.assertEqual(self.admission.open, 1)
        self.advance(2)
        self.assert_gone(there)
        self.assertEqual((self.opened, sum(listener.failures.values())), ([], 1))

    def test_hints(self) -> None:
        """What an operator can do something about is said; scanners are only counted."""
        proxy_v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12)
        for sent, hint in (
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "listen.proxy_protocol_from"),
            (proxy_v2, "listen.proxy_protocol_from"),
            (b"SSH-2.0-OpenSSH\r\n", "is not TLS"),
        ):
            told: list[tuple[str, str]] = []
            listener = self.listener(tls=True)
            listener.say = lambda *said, side: told.append(said)  # noqa: B023
            there = self.accept(listener)
            there.send(sent)
            self.assert_gone(there)
            [(message, kind)] = told
            self.assertIn(hint, message)
            self.assertEqual(kind, NOT_TLS)

    def test_an_old_client(self) -> None:
        told: list[tuple[str, str]] = []
        listener = self.listener(tls=True)
        listener.say = lambda *said, side: told.append(said)
        there = self.accept(listener)
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        connection = SSL.Connection(context, there)
        connection.set_connect_state()
        with contextlib.suppress(SSL.Error):
            connection.do_handshake()
        self.turn()
        self.assertIn("tls.minimum_version", told[0][0])

    def test_plain_http(self) -> None:
        listener = self.listener(tls=True)
        there = self.accept(listener)
        there.send(b"GET / HTTP/1.1\r\nHost: sso.example.com\r\n\r\n")
        answer = self.assert_gone(there)
        head, _, content = answer.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 400 Bad Request\r\n"))
        self.assertIn(b"https://", content)
        self.assertIn(b"content-length: %d" % len(content), head)
        self.assertEqual(listener.failures, {"plain HTTP on the TLS port": 1})

    def test_nonsense(self) -> None:
        listener = self.listener(tls=True)
        there = self.accept(listener)
        there.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        self.assertNotIn(b"HTTP", self.assert_gone(there))
        self.assertEqual(listener.failures, {NOT_TLS: 1})

    def test_cut(self) -> None:
        there = self.accept(self.listener(tls=True))
        self.turn()
        there.shutdown(socket.SHUT_WR)
        self.assert_gone(there)
        self.assertEqual(self.opened, [])

    def test_unproven_until_a_request_is_answered(self) -> None:
        listener = self.listener(tls=True)
        for _ in range(2):
            self.shake(self.client_tls(self.accept(listener)))
        self.assertEqual((len(self.opened), self.admission.refused), (2, 0))
        self.accept(listener)
        self.assertEqual(self.admission.refused, 1)
