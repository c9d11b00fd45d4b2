"""Octets through one TLS connection, by OpenSSL itself and by pyOpenSSL's public methods alike."""

from __future__ import annotations

import contextlib
import os
import socket

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from authproxy.transport import octets
from authproxy.transport.octets import RECORD

from ..handshakes import issue


class _Tests:
    """Two ends of a socket pair after their handshake."""

    receive = staticmethod(octets.receive)
    send = staticmethod(octets.send)
    handshake = staticmethod(octets.handshake)
    negotiated = staticmethod(octets.negotiated)

    def setUp(self) -> None:
        """Connect them."""
        self.ends, self.sockets = self.pair()

    def pair(
        self, *, shaken: bool = True, alpn: bool = False
    ) -> tuple[list[SSL.Connection], tuple[socket.socket, socket.socket]]:
        sockets = socket.socketpair()
        pair = issue("localhost")
        server, client = SSL.Context(SSL.TLS_METHOD), SSL.Context(SSL.TLS_METHOD)
        server.use_certificate(pair.certificate)
        server.use_privatekey(pair.key)
        if alpn:
            server.set_alpn_select_callback(lambda _connection, offered: offered[-1])
            client.set_alpn_protos([b"a", b"b"])
        ends: list[SSL.Connection] = []
        for context, sock in zip((client, server), sockets, strict=True):
            sock.setblocking(False)
            self.addCleanup(sock.close)
            ends.append(SSL.Connection(context, sock))
        ends[0].set_connect_state()
        ends[1].set_accept_state()
        if not shaken:
            return ends, sockets
        for _ in range(6):
            for end in ends:
                with contextlib.suppress(SSL.WantReadError):
                    end.do_handshake()
        self.assertRaises(SSL.WantReadError, self.take, ends[0])  # after the tickets
        return ends, sockets

    def take(self, end: SSL.Connection) -> bytes:
        return self.receive(end, octets.handle_of(end))

    def give(self, end: SSL.Connection, data: object) -> int:
        return self.send(end, octets.handle_of(end), data)

    def shake(self, ends: list[SSL.Connection]) -> list[bool]:
        return [self.handshake(end, octets.handle_of(end)) for end in ends]

    def test_handshake(self) -> None:
        ends, _ = self.pair(shaken=False)
        self.assertEqual(self.shake(ends), [False, False])  # hello, and the server's flight
        self.assertEqual(self.shake(ends), [True, True])
        self.assertEqual([self.negotiated(end, octets.handle_of(end)) for end in ends], [b""] * 2)

    def test_what_both_agree_to(self) -> None:
        ends, _ = self.pair(shaken=False, alpn=True)
        self.shake(ends)
        self.shake(ends)
        self.assertEqual([self.negotiated(end, octets.handle_of(end)) for end in ends], [b"b"] * 2)

    def test_a_handshake_that_fails(self) -> None:
        ends, sockets = self.pair(shaken=False)
        sockets[0].send(b"GET / HTTP/1.1\r\n\r\n")
        failed = self.assertRaises(SSL.Error, self.shake, ends[1:])
        self.assertIn("http request", str(failed))

    def test_there_and_back(self) -> None:
        for data in (b"x", b"\0" * 5, os.urandom(RECORD)):
            for giver, taker in (self.ends, self.ends[::-1]):
                self.assertEqual(self.give(giver, data), len(data))
                self.assertEqual(self.take(taker), data)

    def test_what_was_read_is_not_read_over(self) -> None:
        """The buffer is everybody's; what comes out of it is not."""
        self.give(self.ends[0], b"first")
        first = self.take(self.ends[1])
        self.give(self.ends[0], b"other")
        self.assertEqual((self.take(self.ends[1]), first), (b"other", b"first"))

    def test_parts_of_something_else_than_bytes(self) -> None:
        self.assertEqual(self.give(self.ends[0], memoryview(b"abcdef")[2:4]), 2)
        self.assertEqual(self.give(self.ends[0], memoryview(bytearray(b"xyz"))[1:]), 2)
        self.assertEqual((self.take(self.ends[1]), self.take(self.ends[1])), (b"cd", b"yz"))

    def test_one_record_at_a_time(self) -> None:
        data = os.urandom(RECORD + 100)
        sent = self.give(self.ends[0], data)
        self.assertEqual(sent, RECORD)
        self.assertEqual(self.give(self.ends[0], memoryview(data)[sent:]), 100)
        self.assertEqual(self.take(self.ends[1]) + self.take(self.ends[1]), data)

    def test_nothing_to_read(self) -> None:
        self.assertRaises(SSL.WantReadError, self.take, self.ends[0])
        self.give(self.ends[1], b"later")
        self.assertEqual(self.take(self.ends[0]), b"later")

    def test_no_room(self) -> None:
        """What was refused goes out when it is offered again from elsewhere in memory, once."""
        block = os.urandom(RECORD)
        taken = 0
        with self.assertRaises(SSL.WantWriteError):
            for _ in range(1000):
                self.assertEqual(self.give(self.ends[0], block), RECORD)
                taken += 1
        self.assertGreater(taken, 0)
        got = [self.take(self.ends[1]) for _ in range(taken)]
        self.assertEqual(self.give(self.ends[0], bytes(bytearray(block))), RECORD)
        got.append(self.take(self.ends[1]))
        self.assertEqual(b"".join(got), block * (taken + 1))

    def test_a_clean_end(self) -> None:
        self.give(self.ends[0], b"last")
        self.ends[0].shutdown()
        self.assertEqual(self.take(self.ends[1]), b"last")
        self.assertRaises(SSL.ZeroReturnError, self.take, self.ends[1])

    def test_a_cut(self) -> None:
        self.sockets[0].close()
        self.assertRaises(SSL.SysCallError, self.take, self.ends[1])
        self.assertRaises(SSL.Error, self.give, self.ends[1], b"to nobody")

    def test_what_is_no_tls_and_the_others(self) -> None:
        """A fault of one connection is not left for the next one to find."""
        others, _ = self.pair()
        self.sockets[0].send(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        error = self.assertRaises(SSL.Error, self.take, self.ends[1])
        self.assertNotIsInstance(error, SSL.WantReadError)
        self.assertRaises(SSL.WantReadError, self.take, others[1])
        self.give(others[0], b"well")
        self.assertEqual(self.take(others[1]), b"well")


class UsedTests(_Tests, SynchronousTestCase):
    """What the proxy uses with this pyOpenSSL."""

    def test_it_is_fast(self) -> None:
        """pyOpenSSL's own names are still there: if not, see octets.py."""
        self.assertTrue(octets.fast)


class PublicTests(_Tests, SynchronousTestCase):
    """What it falls back to."""

    receive = staticmethod(octets._public_receive)
    send = staticmethod(octets._public_send)
    handshake = staticmethod(octets._public_handshake)
    negotiated = staticmethod(octets._public_negotiated)
