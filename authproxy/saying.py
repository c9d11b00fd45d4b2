"""Owns what is said of faults that come again and again: once, then counted.

Whoever can cause a fault can cause it a thousand times a second; the log must not follow. Every
fault has a side: "client", "upstream", or "this machine" with its settings.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger, LogLevel

from .deadlines import NEVER

AGAIN = 10.0  # seconds within which a fault of the same kind is only counted
KINDS = 200  # that are remembered; what comes then is of one kind
CLIENT, UPSTREAM, HERE = "client", "upstream", "this machine"
_OTHERS = "more kinds of faults than are told apart"

log = Logger()


class _Kind:
    """A kind of fault, since it was said last."""

    __slots__ = ("again", "level", "message", "repeated", "until")

    def __init__(self, message: str, until: float, again: float, level: str) -> None:
        self.message = message
        self.until = until
        self.again = again
        self.level = level
        self.repeated = 0


class Sayings:
    """Faults and their last time. `now` is a clock in seconds.

    An item of Deadlines, so that a burst that ends is summed up when its time is over; without
    that, when its kind comes next.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.deadline = NEVER
        self._now = now
        self._known: dict[str, _Kind] = {}

    def say(
        self,
        message: str,
        kind: str = "",
        again: float = AGAIN,
        *,
        side: str = CLIENT,
        level: str = "error",
    ) -> None:
        """Log a fault; one of the same kind (or the same text) within `again` seconds is counted.

        What a peer can vary, such as its address, belongs into the message and not into the kind.
        `side` is CLIENT, UPSTREAM or HERE: where to look for the cause.
        """
        kind = kind or message
        message = f"{side}: {message}"
        now = self._now()
        known = self._known.get(kind)
        if known is None and len(self._known) >= KINDS:
            self.flush(now)  # forgets those that are over
            if len(self._known) >= KINDS:
                kind = _OTHERS
                known = self._known.get(kind)
        if known is None:
            self._known[kind] = _Kind(message, now + again, again, level)
            _log(level, message, "")
        elif now < known.until:
            known.repeated += 1
            known.message = message
            self.deadline = min(self.deadline, known.until)
        else:
            before = f"({known.repeated} more like this before) " if known.repeated else ""
            self._known[kind] = _Kind(message, now + again, again, level)
            _log(level, message, before)

    def deadline_passed(self, now: float) -> None:
        """Sum up the bursts whose time is over."""
        self.flush(now)

    def flush(self, now: float = NEVER) -> None:
        """Say what was only counted of kinds whose time is over; without `now`, of all."""
        self.deadline = NEVER
        for kind, known in list(self._known.items()):
            if known.until > now:
                if known.repeated:
                    self.deadline = min(self.deadline, known.until)
            elif not known.repeated:
                del self._known[kind]
            else:
                words = f"({known.repeated} more like this in {known.again:g} s, the last:) "
                _log(known.level, known.message, words)
                # It may go on: then it is counted for as long again.
                known.until += known.again
                known.repeated = 0


def _log(level: str, message: str, before: str) -> None:
    log.emit(LogLevel.lookupByName(level), "{before}{fault}", fault=message, before=before)
