"""Owns three questions: does a client send, and take, fast enough to be waited for, and when have
others their turn?"""

from __future__ import annotations

from ..settings import Limits, Timeouts
from ..wire.errors import ProtocolError

# Pipelined requests that are answered here one after the other (redirects, say: 50 us each), before
# others have their turn. A read may bring 2,400 of them.
AT_ONCE = 16


class Pace:
    """The rate of one request's content, from `now` or the last `restart` on.

    limits.body_rate octets a second are asked for, once limits.body_rate_after seconds are over.
    """

    __slots__ = ("_limits", "_octets", "_since")

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._since = now
        self._octets = 0

    def restart(self, now: float) -> None:
        """Measure from now on."""
        self._since = now
        self._octets = 0

    def came(self, octets: int, now: float) -> None:
        """Count. Raises ProtocolError 408 when it is too slow."""
        self._octets += octets
        elapsed = now - self._since
        limits = self._limits
        if elapsed > limits.body_rate_after and self._octets < limits.body_rate * elapsed:
            raise ProtocolError(408, "the request body came too slowly", "limits.body_rate")


class Uptake:
    """How much of what it is sent a client takes: limits.body_rate over timeouts.write_stall."""

    __slots__ = ("_least", "_outstanding", "_stall", "_taken")

    def __init__(self, limits: Limits, timeouts: Timeouts) -> None:
        self._stall = timeouts.write_stall
        self._least = max(1, limits.body_rate * self._stall)
        self._outstanding = 0
        self._taken = 0  # before more was written

    def restart(self, outstanding: int, now: float) -> float:
        """Measure from now on, with so many octets on their way. Returns when to look again."""
        self._outstanding = outstanding
        self._taken = 0
        return now + self._stall

    def more(self, outstanding: int) -> None:
        """A little more is on its way now: that is not held against the client."""
        self._taken += max(0, self._outstanding - outstanding)
        self._outstanding = outstanding

    def too_little(self, outstanding: int) -> bool:
        """Whether too few of them were taken, by the moment of looking again."""
        taken = self._taken + self._outstanding - outstanding
        return outstanding > 0 and taken < self._least
