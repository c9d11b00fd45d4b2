"""The last warnings and errors."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.trial.unittest import SynchronousTestCase

from authproxy.admin.recent import MOST, MOST_TEXT, Recent


class RecentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 1000.0
        self.recent: Any = Recent(lambda: self.now)
        self.log = Logger(observer=self.recent)

    def seen(self) -> list[tuple[Any, ...]]:
        return [(f.text, f.level, f.count, f.worker) for f in self.recent.faults()]

    def test_what_is_kept(self) -> None:
        self.log.info("all is well")
        self.log.warn("hm")
        self.now += 5
        self.log.error("{what} broke", what="it")
        self.assertEqual(self.seen(), [("it broke", "error", 1, 0), ("hm", "warn", 1, 0)])
        self.assertEqual([fault.last for fault in self.recent.faults()], [1005.0, 1000.0])

    def test_repeats_are_counted(self) -> None:
        self.log.error("a")
        self.log.error("b")
        self.now += 5
        self.log.error("a")
        self.assertEqual(self.seen(), [("a", "error", 2, 0), ("b", "error", 1, 0)])
        fault = self.recent.faults()[0]
        self.assertEqual((fault.first, fault.last), (1000.0, 1005.0))

    def test_request_ids_make_no_difference(self) -> None:
        for request in ("0123456789abcdef", "fedcba9876543210"):
            self.log.error("503 (request {request}): down", request=request)
        self.assertEqual(self.seen(), [("503 (request fedcba9876543210): down", "error", 2, 0)])

    def test_workers_and_what_they_had_counted(self) -> None:
        for number, text in ((1, "down"), (2, "(7 more like this before) down")):
            self.log.emit(LogLevel.error, "[worker {number}] {text}", number=number, text=text)
        self.assertEqual(self.seen(), [("down", "error", 9, 2)])

    def test_what_sums_up_is_the_same_fault(self) -> None:
        self.log.error("down (request 0123456789abcdef)")
        self.log.error("(3 more like this in 10 s, the last:) down (request 1123456789abcdef)")
        self.log.error("(2 more like this before) down (request 2123456789abcdef)")
        self.assertEqual(self.seen(), [("down (request 2123456789abcdef)", "error", 7, 0)])

    def test_lines_to_paste_stay_lines(self) -> None:
        self.log.error("{said}", said="no. Write:\n    a = 1\n    b = 2\nor not")
        self.assertEqual(self.seen()[0][0], "no. Write:\n    a = 1\n    b = 2 or not")

    def test_a_failure(self) -> None:
        try:
            raise ValueError("no good")
        except ValueError:
            self.log.failure("Unexpected")
        self.assertEqual(self.seen(), [("Unexpected: ValueError: no good", "critical", 1, 0)])

    def test_one_line_of_bounded_length(self) -> None:
        self.log.error("{said}", said="a\x1b[31m\nb" + "x" * 5000)
        [(text, *_)] = self.seen()
        self.assertTrue(text.startswith("a\ufffd[31m bxxx"))
        self.assertEqual(len(text), MOST_TEXT)

    def test_an_event_that_cannot_be_formatted(self) -> None:
        self.recent({"log_level": LogLevel.error, "log_format": "{missing}"})
        self.recent({"log_level": LogLevel.error})
        self.assertEqual(len(self.seen()), 2)

    def test_how_many(self) -> None:
        for n in range(3 * MOST):
            self.log.error("number {n}", n=n)
        self.assertEqual(len(self.seen()), MOST)
        self.assertEqual(self.seen()[0][0], f"number {3 * MOST - 1}")
