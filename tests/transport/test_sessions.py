"""Resumption with upstream: who was verified once is believed for a while, nobody else ever."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from authproxy.certificates import Pair, server_context
from authproxy.transport import octets
from authproxy.transport.sessions import LIFETIME, Sessions
from authproxy.upstream_tls import UpstreamTLS, VerificationError, spki_pin

from ..handshakes import chain_pem, handshake, issue, sockets, write

NAME = "authentik.example"
CA = issue(ca=True)
GOOD = issue(NAME, by=CA)
STRANGER = issue(NAME, by=issue(ca=True))


class Counting:
    """A ClientTLS that counts what is verified."""

    def __init__(self, tls: UpstreamTLS) -> None:
        self._tls = tls
        self.groups = tls.groups
        self.connection = tls.connection
        self.verified = 0

    def verify(self, connection: SSL.Connection) -> None:
        self.verified += 1
        self._tls.verify(connection)


class SessionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.use(UpstreamTLS("ca", write(self.mktemp(), chain_pem(CA.certificate)), NAME))
        self.server = self.context(GOOD)

    def use(self, tls: UpstreamTLS) -> None:
        self.tls = Counting(tls)
        self.sessions = Sessions(self.tls, self.clock.seconds)

    def context(self, pair: Pair, newest: int = SSL.TLS1_3_VERSION) -> SSL.Context:
        context = server_context(pair)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_max_proto_version(newest)
        return context

    def connect(self) -> tuple[SSL.Connection, SSL.Connection]:
        """Both ends, after the handshake; what the proxy believes of it is for verify to say."""
        here, there = sockets()
        peer = SSL.Connection(self.server, there)
        peer.set_accept_state()
        connection = self.sessions.connection(here)
        self.assertEqual(handshake(connection, peer), [True, True])
        return connection, peer

    def served(self) -> SSL.Connection:
        """A connection that is verified and has had an answer: what it resumes with has come."""
        connection, peer = self.connect()
        self.sessions.verify(connection)
        peer.send(b"answer")
        self.assertEqual(connection.recv(100), b"answer")
        self.peer = peer
        return connection

    def resumes(self) -> bool:
        """Whether the next connection, which then ends in order, resumes."""
        connection = self.served()
        connection.shutdown()
        return octets.resumed(connection)

    def test_cut(self) -> None:
        """Connections that end without close_notify spoil nothing."""
        self.assertFalse(octets.resumed(self.served()))
        self.assertEqual([octets.resumed(self.served()) for _ in range(5)], [True] * 5)

    def test_resumed(self) -> None:
        """Of a connection that is open and of those that are gone; verified once."""
        for newest in (SSL.TLS1_3_VERSION, SSL.TLS1_2_VERSION):
            self.setUp()
            self.server = self.context(GOOD, newest)
            first = self.served()
            self.assertFalse(octets.resumed(first))
            self.assertTrue(self.resumes())
            self.assertEqual([self.resumes() for _ in range(5)], [True] * 5)
            self.assertEqual(self.tls.verified, 1)

    def test_before_it_can_be(self) -> None:
        """The answer has not come: the second is verified as the first was."""
        first, second = self.connect(), self.connect()
        self.sessions.verify(first[0])
        self.sessions.verify(second[0])
        third, _ = self.connect()
        self.sessions.verify(third)
        self.assertFalse(octets.resumed(third))
        self.assertEqual(self.tls.verified, 3)
        self.assertEqual([self.resumes(), self.resumes()], [False, True])

    def test_verified_again_after_a_while(self) -> None:
        self.served()
        for _ in range(3):
            self.clock.advance(LIFETIME - 1)
            self.served()  # whether or not it resumes does not prolong it
            self.clock.advance(2)
            before = self.tls.verified
            self.assertFalse(self.resumes())
            self.assertEqual(self.tls.verified, before + 1)

    def test_somebody_else(self) -> None:
        """A server that has another certificate knows nothing of the session, or must not be
        believed: it is verified, and what was kept is gone."""
        self.assertEqual([self.resumes(), self.resumes()], [False, True])
        self.server = self.context(STRANGER)
        stranger, _ = self.connect()
        self.assertFalse(octets.resumed(stranger))
        self.assertRaises(VerificationError, self.sessions.verify, stranger)
        again, _ = self.connect()
        self.assertRaises(VerificationError, self.sessions.verify, again)
        self.server = self.context(GOOD)
        self.assertFalse(self.resumes())

    def test_nothing_is_kept_of_who_was_not_verified(self) -> None:
        self.server = self.context(STRANGER)
        for _ in range(3):
            connection, peer = self.connect()
            peer.send(b"answer")
            connection.recv(100)
            self.assertFalse(octets.resumed(connection))
            self.assertRaises(VerificationError, self.sessions.verify, connection)
        self.assertEqual(self.tls.verified, 3)

    def test_forgotten(self) -> None:
        self.assertEqual([self.resumes(), self.resumes()], [False, True])
        self.sessions.forget()
        self.assertFalse(self.resumes())

    def test_off_and_pins(self) -> None:
        """Whatever the verification is."""
        for mode, value in (("off", ""), ("pin", spki_pin(GOOD.certificate))):
            self.use(UpstreamTLS(mode, value, NAME))
            self.assertEqual([self.resumes() for _ in range(3)], [False, True, True])

    def test_where_it_cannot_be_told(self) -> None:
        """A library that does not say what was resumed: each is verified."""
        self.patch(octets, "knows_resumed", False)
        kept: list[Any] = [self.served() for _ in range(3)]
        self.assertEqual((self.tls.verified, len(kept)), (3, 3))
