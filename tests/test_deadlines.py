"""The coarse sweep over everything that has a deadline."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from authproxy.deadlines import NEVER, RESOLUTION, Deadlines


class Item:
    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.passed: list[float] = []

    def deadline_passed(self, now: float) -> None:
        self.passed.append(now)
        self.deadline = NEVER


class DeadlinesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock, self.clock.seconds)
        self.deadlines.start()

    def advance(self, seconds: float) -> None:
        self.clock.pump([RESOLUTION] * round(seconds / RESOLUTION))

    def test_passes_once_and_not_early(self) -> None:
        item = Item(5.0)
        self.deadlines.add(item)
        self.advance(4.5)
        self.assertEqual(item.passed, [])
        self.advance(10)
        self.assertEqual(item.passed, [5.0])

    def test_moved_deadline(self) -> None:
        item = Item(5.0)
        self.deadlines.add(item)
        self.advance(4)
        item.deadline = 8.0
        self.advance(3)
        self.assertEqual(item.passed, [])
        self.advance(1)
        self.assertEqual(item.passed, [8.0])

    def test_discarded(self) -> None:
        item = Item(1.0)
        self.deadlines.add(item)
        self.deadlines.discard(item)
        self.advance(3)
        self.assertEqual(item.passed, [])

    def test_one_sweep_may_end_other_items(self) -> None:
        """An item that an earlier one of the same sweep removed or moved is not told."""
        items = [Item(1.0) for _ in range(2)]

        def end_the_other(now: float) -> None:
            for item in items:
                item.deadline = NEVER
            told.append(now)

        told: list[float] = []
        for item in items:
            item.deadline_passed = end_the_other  # type: ignore[method-assign]
            self.deadlines.add(item)
        self.advance(3)
        self.assertEqual(len(told), 1)

    def test_an_item_that_raises_is_dropped_and_logged(self) -> None:
        bad, good = Item(1.0), Item(1.0)

        def fail(now: float) -> None:
            raise RuntimeError("boom")

        bad.deadline_passed = fail  # type: ignore[method-assign]
        self.deadlines.add(bad)
        self.deadlines.add(good)
        self.advance(3)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(len(good.passed), 1)
        self.assertEqual(len(self.deadlines), 1)

    def test_next_turn(self) -> None:
        told: list[str] = []
        self.deadlines.next_turn(lambda: told.append("turn"), self.fail)
        self.assertEqual(told, [])
        self.clock.advance(0)
        self.assertEqual(told, ["turn"])

    def test_a_turn_that_raises(self) -> None:
        told: list[str] = []
        self.deadlines.next_turn(lambda: {}["no"], lambda: told.append("failed"))
        self.clock.advance(0)
        self.assertEqual(told, ["failed"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_stop(self) -> None:
        self.deadlines.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
