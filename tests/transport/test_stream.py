"""Streams over real sockets and real TLS, driven by a dispatcher without a reactor."""

from __future__ import annotations

import socket
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet import tcp
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from authproxy.transport.dialling import TransportReactor
from authproxy.transport.dispatch import Dispatcher
from authproxy.transport.peeking import peek_header
from authproxy.transport.stream import Stream, TCPServer
from benchmarks.records import Records

TURNS = 2000


class Recorder(Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None
        self.pauses = 0
        self.resumes = 0
        self.handshake: object = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.lost = reason

    def handshake_completed(self) -> None:
        self.handshake = True

    def handshake_failed(self, reason: Exception) -> None:
        self.handshake = reason

    def pauseProducing(self) -> None:
        self.pauses += 1

    def resumeProducing(self) -> None:
        self.resumes += 1

    def stopProducing(self) -> None:
        pass


class Pair:
    """Two streams joined by a socket pair, and what drives them."""

    def __init__(self) -> None:
        self.clock = MemoryReactorClock()
        self.dispatcher = Dispatcher()
        self.reactor = TransportReactor(self.clock, self.dispatcher)
        server, client = socket.socketpair()
        self.here = Recorder()
        self.there = Recorder()
        self.keylog: list[bytes] = []
        self.server = TCPServer(server, self.here, ("192.0.2.1", 1), None, 1, self.reactor)
        self.client = _client(client, self.there, self.reactor)
        self.here.makeConnection(self.server)
        self.there.makeConnection(self.client)

    def turn(self, turns: int = 50) -> None:
        for _ in range(turns):
            self.dispatcher.doRead()
            self.clock.advance(0)

    def until(self, condition: Any) -> None:
        for _ in range(TURNS):
            if condition():
                return
            self.turn(1)
        raise AssertionError("it did not happen")

    def start_tls(self) -> None:
        ca = trustme.CA()
        context = SSL.Context(SSL.TLS_METHOD)
        ca.issue_cert("localhost").configure_cert(context)
        self.server.start_tls(_connection(context, self.server, accept=True), self.here)
        client = SSL.Context(SSL.TLS_METHOD)
        client.set_keylog_callback(lambda _connection, line: self.keylog.append(line))
        self.client.start_tls(_connection(client, self.client, accept=False), self.there)

    def close(self) -> None:
        self.dispatcher.close()
        for transport in (self.server, self.client):
            if transport.connected:
                transport.connectionLost(Failure(ConnectionAborted()))


class ClientStream(Stream, tcp.Connection):
    """A client's stream, without the connector that made it."""

    _tlsClientDefault = True


def _client(sock: socket.socket, protocol: Recorder, reactor: Any) -> ClientStream:
    client = ClientStream(sock, protocol, reactor)
    client.connected = 1
    client.startReading()
    return client


def _connection(context: SSL.Context, transport: Any, accept: bool) -> SSL.Connection:
    connection = SSL.Connection(context, transport.socket)
    if accept:
        connection.set_accept_state()
    else:
        connection.set_connect_state()
    return connection


class _StreamTests:
    """What holds with and without TLS."""

    pair: Pair
    assertEqual: Any
    assertTrue: Any
    assertIsInstance: Any
    assertIsNotNone: Any

    def test_both_directions(self) -> None:
        self.pair.server.write(b"to the client")
        self.pair.client.write(b"to the server")
        self.pair.turn()
        self.assertEqual(self.pair.there.received, b"to the client")
        self.assertEqual(self.pair.here.received, b"to the server")

    def test_write_is_eager(self) -> None:
        """Nothing waits for a turn of the loop while the kernel takes it."""
        self.pair.server.write(b"x" * 1000)
        self.assertEqual(self.pair.server.buffered, 0)
        self.assertEqual(self.pair.server.getHandle().fileno() in _writers(self.pair), False)

    def test_large_write_is_whole_and_in_order(self) -> None:
        data = bytes(range(256)) * 8192  # 2 MiB: more than the kernel takes at once
        self.pair.server.write(data)
        self.assertTrue(self.pair.server.buffered > 0)
        self.pair.server.write(b"the end")
        self.pair.until(lambda: len(self.pair.there.received) == len(data) + 7)
        self.assertEqual(self.pair.there.received, data + b"the end")
        self.assertEqual(self.pair.server.buffered, 0)

    def test_producer_is_paused_and_resumed(self) -> None:
        self.pair.server.registerProducer(self.pair.here, True)
        self.pair.client.pauseProducing()
        for _ in range(200):
            self.pair.server.write(b"x" * 16384)
        self.assertTrue(self.pair.here.pauses > 0)
        self.assertEqual(self.pair.here.resumes, 0)
        self.pair.client.resumeProducing()
        self.pair.until(lambda: self.pair.here.resumes)
        self.assertEqual(self.pair.server.buffered, 0)

    def test_outstanding(self) -> None:
        """What the kernel took, the peer has not yet."""
        self.pair.client.pauseProducing()
        self.pair.server.write(b"x" * 10000)
        self.assertEqual(self.pair.server.buffered, 0)
        self.assertTrue(self.pair.server.outstanding >= 10000)
        self.pair.client.resumeProducing()
        self.pair.until(lambda: len(self.pair.there.received) == 10000)
        self.assertEqual(self.pair.server.outstanding, 0)

    def test_lose_connection_flushes(self) -> None:
        data = b"y" * 3_000_000
        self.pair.server.write(data)
        self.pair.server.loseConnection()
        self.pair.until(lambda: self.pair.there.lost is not None)
        self.assertEqual(len(self.pair.there.received), len(data))
        self.assertIsInstance(self.pair.there.lost.value, ConnectionDone)  # type: ignore[union-attr]
        self.assertIsNotNone(self.pair.here.lost)

    def answer_and_close(self, answer: bytes) -> None:
        """What an event asks for: a response, and the end."""

        def received(data: bytes) -> None:
            self.pair.server.write(answer)
            self.pair.server.loseConnection()

        self.pair.here.dataReceived = received  # type: ignore[method-assign]
        self.pair.client.write(b"hello")

    def test_a_close_within_a_batch_ends_with_it(self) -> None:
        """Not with the next turn of the reactor."""
        self.answer_and_close(b"answer")
        self.pair.until(lambda: self.pair.server.disconnecting)
        self.assertIsNotNone(self.pair.here.lost)
        self.pair.turn()
        self.assertEqual(self.pair.there.received, b"answer")
        assert self.pair.there.lost is not None
        self.assertIsNotNone(self.pair.there.lost.check(ConnectionDone))

    def test_a_close_within_a_batch_loses_nothing(self) -> None:
        """Where the kernel does not take all, it waits as ever."""
        large = bytes(range(256)) * 16384
        self.answer_and_close(large)
        self.pair.until(lambda: self.pair.server.disconnecting)
        self.assertIsNone(self.pair.here.lost)
        self.pair.until(lambda: self.pair.there.lost is not None)
        self.assertEqual(self.pair.there.received, large)

    def test_a_close_waits_for_a_producer(self) -> None:
        self.pair.server.registerProducer(self.pair.there, True)
        self.answer_and_close(b"answer")
        self.pair.until(lambda: self.pair.server.disconnecting)
        self.assertIsNone(self.pair.here.lost)
        self.pair.turn()
        self.assertEqual(self.pair.there.received, b"answer")

    def test_two_closes_are_one(self) -> None:
        losses: list[object] = []
        self.pair.here.connectionLost = losses.append  # type: ignore[method-assign]

        def received(data: bytes) -> None:
            self.pair.server.loseConnection()
            self.pair.server.loseConnection()

        self.pair.here.dataReceived = received  # type: ignore[method-assign]
        self.pair.client.write(b"hello")
        self.pair.turn()
        self.assertEqual(len(losses), 1)

    def test_lose_write_connection_still_reads(self) -> None:
        self.pair.server.write(b"answer")
        self.pair.server.loseWriteConnection()
        self.pair.turn()
        self.assertEqual(self.pair.there.received, b"answer")

    def test_abort_is_not_a_clean_end(self) -> None:
        self.pair.server.abortConnection()
        self.pair.until(lambda: self.pair.there.lost is not None)
        self.assertIsInstance(self.pair.here.lost.value, ConnectionAborted)  # type: ignore[union-attr]

    def test_nothing_is_delivered_while_paused(self) -> None:
        self.pair.server.pauseProducing()
        self.pair.client.write(b"later")
        self.pair.turn()
        self.assertEqual(self.pair.here.received, b"")
        self.pair.server.resumeProducing()
        self.pair.turn()
        self.assertEqual(self.pair.here.received, b"later")

    def test_write_after_the_end_is_nothing(self) -> None:
        self.pair.server.abortConnection()
        self.pair.turn()
        self.pair.server.write(b"too late")
        self.assertEqual(self.pair.server.buffered, 0)

    def test_idle_costs_no_events(self) -> None:
        """A dispatcher with idle connections reports nothing: no descriptor stays writable."""
        self.pair.turn()
        self.assertEqual(self.pair.dispatcher._epoll.poll(0), [])


def _writers(pair: Pair) -> list[int]:
    return [fd for fd, mask in pair.dispatcher._masks.items() if mask & 4]


class PlainTests(_StreamTests, SynchronousTestCase):
    def setUp(self) -> None:
        self.pair = Pair()
        self.addCleanup(self.pair.close)


class TLSTests(_StreamTests, SynchronousTestCase):
    def setUp(self) -> None:
        self.pair = Pair()
        self.addCleanup(self.pair.close)
        self.pair.start_tls()
        self.pair.until(lambda: self.pair.here.handshake and self.pair.there.handshake)
        self.pair.turn()

    def test_close_notify_is_sent(self) -> None:
        """A clean end of TLS is a close_notify, not just the end of the socket."""
        self.pair.server.loseConnection()
        self.pair.until(lambda: self.pair.there.lost is not None)
        self.assertIsInstance(self.pair.there.lost.value, ConnectionDone)  # type: ignore[union-attr]

    def test_one_key_update_a_read(self) -> None:
        """Else who sends nothing else keeps one read, and everybody else, for ever."""
        tls = self.pair.client.tls
        assert tls is not None
        records = Records(str(tls.get_cipher_name()), b"\n".join(self.pair.keylog))
        updates = [records.key_update() for _ in range(20)]
        self.pair.client.socket.send(b"".join(updates) + records.record(b"GET /"))
        server = self.pair.server
        for left in range(19, -1, -1):
            server.doRead()
            waiting = server.socket.recv(65536, socket.MSG_PEEK)
            self.assertGreaterEqual(len(waiting), left * len(updates[0]))
            self.assertEqual(self.pair.here.received, b"")
        server.doRead()
        self.assertEqual(self.pair.here.received, b"GET /")

    def test_an_end_without_close_notify_is_no_clean_end(self) -> None:
        self.pair.server.socket.shutdown(socket.SHUT_WR)
        self.pair.until(lambda: self.pair.there.lost is not None)
        self.assertIsInstance(self.pair.there.lost.value, ConnectionLost)  # type: ignore[union-attr]


class HandshakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pair = Pair()
        self.addCleanup(self.pair.close)

    def test_writes_before_the_handshake_wait(self) -> None:
        self.pair.start_tls()
        self.pair.client.write(b"first")
        self.pair.server.write(b"also first")
        self.pair.until(lambda: self.pair.here.received and self.pair.there.received)
        self.assertEqual(self.pair.here.received, b"first")
        self.assertEqual(self.pair.there.received, b"also first")

    def test_a_request_comes_with_the_end_of_the_handshake(self) -> None:
        """It is read at once: no second event is needed."""
        server, client = self.pair.server, self.pair.client
        self.pair.start_tls()
        client.write(b"request")
        self.pair.until(lambda: self.pair.there.handshake)
        client.doWrite()
        self.assertIsNone(self.pair.here.handshake)
        server.doRead()
        self.assertTrue(self.pair.here.handshake)
        self.assertEqual(self.pair.here.received, b"request")

    def test_waiting_for_the_peer_does_not_spin(self) -> None:
        """A handshake that waits asks for reading only: writable is always true."""
        context = SSL.Context(SSL.TLS_METHOD)
        self.pair.client.start_tls(
            _connection(context, self.pair.client, accept=False), self.pair.there
        )
        self.pair.server.pauseProducing()
        self.pair.turn(5)
        self.assertEqual(self.pair.dispatcher._epoll.poll(0), [])

    def test_failure_is_told_once(self) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        trustme.CA().issue_cert("localhost").configure_cert(context)
        self.pair.server.start_tls(
            _connection(context, self.pair.server, accept=True), self.pair.here
        )
        self.pair.client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.pair.until(lambda: self.pair.here.lost is not None)
        self.assertIsInstance(self.pair.here.handshake, SSL.Error)
        self.assertIn("http request", str(self.pair.here.handshake))

    def test_closing_during_the_handshake(self) -> None:
        self.pair.server.start_tls(
            _connection(SSL.Context(SSL.TLS_METHOD), self.pair.server, accept=True), self.pair.here
        )
        self.pair.server.loseConnection()
        self.pair.until(lambda: self.pair.here.lost is not None)


class PeekTests(SynchronousTestCase):
    """A prefix is read to its last octet and no further."""

    def setUp(self) -> None:
        self.pair = Pair()
        self.addCleanup(self.pair.close)
        self.headers: list[bytes] = []

    def parse(self, data: bytes) -> int | None:
        end = data.find(b"\n")
        if end < 0:
            return None
        self.headers.append(data[: end + 1])
        return end + 1

    def test_whole(self) -> None:
        peek_header(self.pair.server, self.parse)
        self.pair.client.write(b"HEADER\nrest")
        self.pair.turn()
        self.assertEqual((self.headers, self.pair.here.received), ([b"HEADER\n"], b"rest"))

    def test_byte_by_byte(self) -> None:
        peek_header(self.pair.server, self.parse)
        for byte in b"HEADER\nrest":
            self.pair.client.write(bytes([byte]))
            self.pair.turn(3)
        self.assertEqual((self.headers, self.pair.here.received), ([b"HEADER\n"], b"rest"))

    def test_half_a_header_does_not_spin(self) -> None:
        peek_header(self.pair.server, self.parse)
        self.pair.client.write(b"HEA")
        self.pair.turn(3)
        self.assertEqual(self.pair.dispatcher._epoll.poll(0), [])

    def test_tls_begins_right_after(self) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        trustme.CA().issue_cert("localhost").configure_cert(context)

        def parse(data: bytes) -> int | None:
            end = self.parse(data)
            if end is not None:
                self.pair.server.start_tls(
                    _connection(context, self.pair.server, accept=True), self.pair.here
                )
            return end

        peek_header(self.pair.server, parse)
        self.pair.client.write(b"HEADER\n")
        client = SSL.Context(SSL.TLS_METHOD)
        self.pair.client.start_tls(
            _connection(client, self.pair.client, accept=False), self.pair.there
        )
        self.pair.client.write(b"hello")
        self.pair.until(lambda: self.pair.here.received)
        self.assertEqual(self.pair.here.received, b"hello")
