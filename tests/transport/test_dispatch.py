"""The dispatcher's three rules, over socket pairs and without a reactor."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from authproxy.transport.dispatch import Dispatcher


class End:
    """One end of a socket pair, as a transport."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.socket, self.peer = socket.socketpair()
        self.socket.setblocking(False)
        self.dispatcher = dispatcher
        self.reads: list[bytes] = []
        self.writes = 0
        self.lost: list[Any] = []

    def fileno(self) -> int:
        return self.socket.fileno()

    def doRead(self) -> Any:
        self.reads.append(self.socket.recv(100))

    def doWrite(self) -> Any:
        self.writes += 1
        self.dispatcher.removeWriter(self)

    def readConnectionLost(self, reason: Failure) -> None:
        self.connectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason.value)
        self.close()

    def close(self) -> None:
        self.dispatcher.removeReader(self)
        self.dispatcher.removeWriter(self)
        self.socket.close()


class DispatcherTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.dispatcher = Dispatcher()
        self.addCleanup(self.dispatcher.close)

    def end(self) -> End:
        end = End(self.dispatcher)
        self.addCleanup(end.socket.close)
        self.addCleanup(end.peer.close)
        self.dispatcher.addReader(end)
        return end

    def test_readable_and_writable(self) -> None:
        end = self.end()
        end.peer.send(b"x")
        self.dispatcher.addWriter(end)
        self.dispatcher.doRead()
        self.assertEqual((end.reads, end.writes), ([b"x"], 1))

    def test_added_twice_removed_once(self) -> None:
        end = self.end()
        self.dispatcher.addReader(end)
        self.dispatcher.removeReader(end)
        self.dispatcher.removeReader(end)
        end.peer.send(b"x")
        self.dispatcher.doRead()
        self.assertEqual(end.reads, [])

    def test_an_exception_costs_its_own_transport_only(self) -> None:
        """And it never leaves the dispatcher: the reactor would drop it and all connections."""
        bad, good = self.end(), self.end()

        def fail() -> None:
            raise RuntimeError("boom")

        bad.doRead = fail  # type: ignore[method-assign]
        for end in (bad, good):
            end.peer.send(b"x")
        self.assertIsNone(self.dispatcher.doRead())
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertIsInstance(bad.lost[0], RuntimeError)
        self.assertEqual((good.reads, good.lost), ([b"x"], []))

    def test_an_exception_in_the_end_is_contained(self) -> None:
        bad, good = self.end(), self.end()
        bad.doRead = ConnectionLost  # type: ignore[method-assign]

        def fail(reason: Failure) -> None:
            raise RuntimeError("boom")

        bad.connectionLost = fail  # type: ignore[method-assign]
        for end in (bad, good):
            end.peer.send(b"x")
        self.assertIsNone(self.dispatcher.doRead())
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(good.reads, [b"x"])

    def test_a_reused_descriptor_does_not_get_the_old_event(self) -> None:
        """Within a batch one transport closes another and a new one takes its descriptor."""
        first, second = self.end(), self.end()
        for end in (first, second):
            end.peer.send(b"old")
        replaced: list[End] = []

        def replace(old: End) -> Any:
            def read() -> None:
                fd = old.fileno()
                old.close()
                new = End(self.dispatcher)  # the kernel gives out the lowest free descriptor
                self.assertEqual(new.fileno(), fd)
                self.addCleanup(new.socket.close)
                self.addCleanup(new.peer.close)
                self.dispatcher.addReader(new)
                replaced.append(new)

            return read

        # Whichever is delivered first replaces the other.
        first.doRead = replace(second)  # type: ignore[method-assign]
        second.doRead = replace(first)  # type: ignore[method-assign]
        self.dispatcher.doRead()
        self.assertEqual(len(replaced), 1)
        self.assertEqual((replaced[0].reads, replaced[0].lost), ([], []))

    def test_a_paused_transport_with_a_dead_peer_does_not_spin(self) -> None:
        end = self.end()
        self.dispatcher.removeReader(end)
        end.peer.close()
        self.assertEqual(self.dispatcher._epoll.poll(0), [])

    def test_closing_ends_every_connection(self) -> None:
        ends = [self.end(), self.end()]
        self.dispatcher.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual([len(end.lost) for end in ends], [1, 1])
