"""Faults that come again and again."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from authproxy.deadlines import NEVER, Deadlines
from authproxy.saying import AGAIN, CLIENT, HERE, KINDS, UPSTREAM, Sayings


class SayingsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sayings = Sayings(self.clock.seconds)
        self.deadlines = Deadlines(self.clock, self.clock.seconds)
        self.deadlines.add(self.sayings)
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def said(self) -> list[str]:
        found = [formatEvent(event) for event in self.events if "before" in event]
        self.events.clear()
        return found

    def say(self, message: str, *how: Any) -> None:
        self.sayings.say(message, *how, side=UPSTREAM)

    def test_once_then_counted(self) -> None:
        for _ in range(5):
            self.say("down")
        self.assertEqual(self.said(), ["upstream: down"])
        self.clock.advance(AGAIN)
        self.say("down")
        self.assertEqual(self.said(), ["(4 more like this before) upstream: down"])

    def test_sides(self) -> None:
        for side, words in ((CLIENT, "client"), (UPSTREAM, "upstream"), (HERE, "this machine")):
            self.sayings.say("so", side, side=side)
            self.assertEqual(self.said(), [f"{words}: so"])

    def test_level(self) -> None:
        self.sayings.say("odd", side=CLIENT, level="warn")
        self.sayings.say("bad", side=CLIENT)
        self.assertEqual(
            [event["log_level"] for event in self.events], [LogLevel.warn, LogLevel.error]
        )

    def test_a_burst_that_ends_is_summed_up(self) -> None:
        """With the latest words, and no word more after that."""
        for number in range(5):
            self.say(f"down ({number})", "down")
        self.clock.advance(AGAIN - 1)
        self.deadlines.sweep()
        self.assertEqual(self.said(), ["upstream: down (0)"])
        self.clock.advance(1)
        self.deadlines.sweep()
        self.assertEqual(self.said(), ["(4 more like this in 10 s, the last:) upstream: down (4)"])
        for _ in range(5):
            self.clock.advance(AGAIN)
            self.deadlines.sweep()
        self.assertEqual(self.said(), [])
        self.assertEqual(self.sayings.deadline, NEVER)

    def test_a_burst_that_goes_on(self) -> None:
        """One line for each time, with everything counted once."""
        for _ in range(30):
            for _ in range(10):
                self.say("down")
            self.clock.advance(1)
            self.deadlines.sweep()
        counts = [int(line.split()[0][1:]) for line in self.said()[1:]]
        self.assertEqual(len(counts), 3)
        self.assertEqual(sum(counts), 299)

    def test_what_is_said_once_waits_for_nothing(self) -> None:
        self.say("down")
        self.assertEqual(self.sayings.deadline, NEVER)

    def test_the_end(self) -> None:
        for _ in range(3):
            self.say("down")
        self.sayings.flush()
        self.assertEqual(len(self.said()), 2)

    def test_kinds(self) -> None:
        """Many addresses make one kind: the log does not grow with them."""
        for number in range(1000):
            self.say(f"too large, from {number}", "too large")
        self.assertEqual(self.said(), ["upstream: too large, from 0"])
        self.say("another")
        self.assertEqual(self.said(), ["upstream: another"])

    def test_its_own_time(self) -> None:
        self.say("seldom", "", 3600)
        self.clock.advance(3599)
        self.say("seldom", "", 3600)
        self.deadlines.sweep()
        self.assertEqual(self.said(), ["upstream: seldom"])

    def test_what_is_remembered_is_bounded(self) -> None:
        """And what is said: kinds beyond the bound are one kind."""
        for number in range(3 * KINDS):
            self.say(str(number))
        self.assertLessEqual(len(self.sayings._known), KINDS + 1)
        self.assertLessEqual(len(self.said()), KINDS + 1)
        self.clock.advance(AGAIN)
        self.say("after that")
        self.assertIn("upstream: after that", self.said())
