"""Owns what is said of faults that come again and again: once, then counted.

Whoever can cause a fault can cause it a thousand times a second; the log must not follow.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

AGAIN = 10.0  # seconds within which a fault of the same kind is only counted
KINDS = 200  # that are remembered; more begin anew

log = Logger()


class Sayings:
    """Faults and their last time. `now` is a clock in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._known: dict[str, tuple[float, int]] = {}

    def say(self, message: str, kind: str = "", again: float = AGAIN) -> None:
        """Log a fault; one of the same kind (or the same text) within `again` seconds is counted.

        What a peer can vary, such as its address, belongs into the message and not into the kind.
        """
        kind = kind or message
        now = self._now()
        until, repeated = self._known.get(kind, (0.0, 0))
        if now < until:
            self._known[kind] = (until, repeated + 1)
            return
        if len(self._known) >= KINDS:
            self._known.clear()
        self._known[kind] = (now + again, 0)
        before = f"({repeated} more like this before) " if repeated else ""
        log.error("{before}{fault}", fault=message, before=before)
