"""Faults that come again and again."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from authproxy.saying import AGAIN, KINDS, Sayings


class SayingsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sayings = Sayings(self.clock.seconds)
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def said(self) -> list[str]:
        found = [formatEvent(event) for event in self.events if "before" in event]
        self.events.clear()
        return found

    def test_once_then_counted(self) -> None:
        for _ in range(5):
            self.sayings.say("down")
        self.assertEqual(self.said(), ["down"])
        self.clock.advance(AGAIN)
        self.sayings.say("down")
        self.assertEqual(self.said(), ["(4 more like this before) down"])

    def test_kinds(self) -> None:
        """Many addresses make one kind: the log does not grow with them."""
        for number in range(1000):
            self.sayings.say(f"too large, from {number}", "too large")
        self.assertEqual(self.said(), ["too large, from 0"])
        self.sayings.say("another")
        self.assertEqual(self.said(), ["another"])

    def test_its_own_time(self) -> None:
        self.sayings.say("seldom", again=3600)
        self.clock.advance(3599)
        self.sayings.say("seldom", again=3600)
        self.assertEqual(self.said(), ["seldom"])

    def test_what_is_remembered_is_bounded(self) -> None:
        for number in range(3 * KINDS):
            self.sayings.say(str(number))
        self.assertLessEqual(len(self.sayings._known), KINDS)
