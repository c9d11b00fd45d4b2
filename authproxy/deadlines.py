"""Owns time: one coarse sweep over everything that has a deadline.

A connection that would use one DelayedCall per state pays for a heap operation several times per
request. Here a deadline is a float attribute that the connection sets when it changes state; twice
a second one pass looks at all of them. A deadline is therefore met up to half a second late, and
setting one costs an attribute assignment.

Knows nothing of connections: an item has `deadline` (seconds of the clock; NEVER for none) and
`deadline_passed(now)`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

NEVER = float("inf")
RESOLUTION = 0.5  # seconds between two sweeps

log = Logger()


def make_steady(reactor: Any) -> None:
    """Let the reactor's delays be of the monotonic clock. Call it before anything is scheduled.

    Twisted's are moments of the wall clock: where that is set back by a day (a wrong clock at the
    boot, a restored virtual machine), everything that was to be done within a second, sweeps, logs
    and drains, would be done a day later; and forward, everything at once.
    """
    reactor.seconds = time.monotonic


class Timed(Protocol):
    """What a sweep looks at."""

    deadline: float

    def deadline_passed(self, now: float) -> None:
        """The deadline lies behind `now`. Set a new one, or be removed: else it is called again."""


class Deadlines:
    """The set of items whose deadlines are watched.

    `now` is the clock that deadlines are moments of: monotonic seconds in production, as those of
    the reactor once `make_steady` has seen it; Clock.seconds in tests.
    """

    def __init__(self, reactor: IReactorTime, now: Callable[[], float]) -> None:
        self.now = now
        self._reactor = reactor
        self._items: set[Timed] = set()
        self._call: IDelayedCall | None = None
        self.add = self._items.add
        self.discard = self._items.discard

    def __len__(self) -> int:
        return len(self._items)

    def start(self) -> None:
        """Begin to sweep."""
        if self._call is None:
            self._call = self._reactor.callLater(RESOLUTION, self._sweep_and_go_on)

    def stop(self) -> None:
        """End sweeping; the items stay."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def next_turn(self, act: Callable[[], None], failed: Callable[[], None]) -> None:
        """Call this with the reactor's next turn, when everybody else has had theirs. Where it
        raises, that is logged, and `failed` called."""
        self._reactor.callLater(0, self._turn, act, failed)

    @staticmethod
    def _turn(act: Callable[[], None], failed: Callable[[], None]) -> None:
        try:
            act()
        except Exception:
            log.failure("What waited for its turn failed")
            failed()

    def _sweep_and_go_on(self) -> None:
        self._call = self._reactor.callLater(RESOLUTION, self._sweep_and_go_on)
        self.sweep()

    def sweep(self) -> None:
        """Tell every item whose deadline has passed. One that raises is dropped and logged."""
        now = self.now()
        for item in [item for item in self._items if item.deadline <= now]:
            # An earlier one of this sweep may have ended or moved this one.
            if item in self._items and item.deadline <= now:
                try:
                    item.deadline_passed(now)
                except Exception:
                    self._items.discard(item)
                    log.failure("A deadline's consequence failed ({item!r})", item=item)
