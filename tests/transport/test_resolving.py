"""Names: one question at a time for each, a deadline for whoever waits, and no thread that others
need."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from authproxy.transport.resolving import Names, NameTimeout

V4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 9000))
V6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 9000, 0, 0))


class Turning(Clock):
    """A reactor that calls what threads want when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[Callable[[], None]] = []
        self.came = threading.Semaphore(0)

    def callFromThread(self, what: Callable[..., Any], *arguments: Any) -> None:
        self.wanted.append(lambda: what(*arguments))
        self.came.release()

    def turn(self) -> None:
        """Once a thread has something to say."""
        assert self.came.acquire(timeout=30)
        self.wanted.pop(0)()


class NamesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Turning()
        self.asked: list[str] = []
        self.answers = threading.Semaphore(0)
        self.result: list[tuple[Any, ...]] | Exception = [V4]
        self.names = Names(self.reactor, self.getaddrinfo)

    def getaddrinfo(self, host: str, port: int, **hints: Any) -> Any:
        self.asked.append(host)
        assert self.answers.acquire(timeout=30)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def ask(self, host: str = "a.example") -> Deferred[list[Any]]:
        return self.names.addresses(host, 9000, 5)

    def answer(self) -> None:
        self.answers.release()
        self.reactor.turn()

    def test_addresses(self) -> None:
        """In the system's order; of kinds that cannot be dialled none."""
        self.result = [V6, (socket.AF_UNIX, 1, 0, "", "/x"), V4]
        asked = self.ask()
        self.answer()
        self.assertEqual(
            self.successResultOf(asked),
            [IPv6Address("TCP", "2001:db8::1", 9000), IPv4Address("TCP", "192.0.2.1", 9000)],
        )
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_one_question_for_all(self) -> None:
        """Who asks meanwhile gets the same answer, who asks later asks anew."""
        asked = [self.ask() for _ in range(20)]
        self.answer()
        for each in asked:
            self.assertEqual(len(self.successResultOf(each)), 1)
        self.assertEqual(self.asked, ["a.example"])
        again = self.ask()
        self.answer()
        self.successResultOf(again)
        self.assertEqual(self.asked, ["a.example"] * 2)

    def test_another_name_does_not_wait(self) -> None:
        hanging = [self.ask(f"{number}.example") for number in range(30)]
        self.answers.release()  # whichever of them
        self.reactor.turn()
        self.assertEqual(sum(each.called for each in hanging), 1)
        for _ in hanging[1:]:
            self.answer()
        for each in hanging:
            self.successResultOf(each)

    def test_deadline(self) -> None:
        """Each has its own; a thread that hangs is not joined by another."""
        first = self.ask()
        self.reactor.advance(3)
        second = self.ask()
        self.reactor.advance(2)
        self.failureResultOf(first, NameTimeout)
        self.assertNoResult(second)
        self.answer()
        self.successResultOf(second)
        self.assertEqual(self.asked, ["a.example"])

    def test_nobody_waits_any_more(self) -> None:
        asked = self.ask()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.answer()

    def test_who_hears_it_calls_off_another(self) -> None:
        first, second = self.ask(), self.ask()
        first.addCallback(lambda _: second.cancel())
        self.answer()
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)

    def test_failures(self) -> None:
        for raised, kind in (
            (socket.gaierror(socket.EAI_NONAME, "unknown"), DNSLookupError),
            (socket.gaierror(socket.EAI_AGAIN, "no server"), DNSLookupError),
            (UnicodeError("label too long"), DNSLookupError),
            (OSError(24, "Too many open files"), OSError),
        ):
            self.result = raised
            asked = self.ask()
            self.answer()
            self.failureResultOf(asked, kind)

    def test_no_thread_to_be_had(self) -> None:
        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        self.patch(threading.Thread, "start", start)
        with self.assertRaises(OSError):
            self.ask()
