"""Owns who waits for a connection of a pool, and in which order.

Requests that are whole go first, in order. Behind them are those of whose content the client has
to send more: it decides for how long they keep a connection. With 2,000 of them that ask to be told
to go on (13 kB a second) most others waited for seconds, and some in vain. One that becomes whole
while it waits takes its place among the first. So does, now and then, another: else a site that is
as busy as it can be would serve none of them.
"""

from __future__ import annotations

from bisect import bisect
from collections import deque
from typing import NamedTuple, Protocol

from ..deadlines import NEVER
from ..errors import UpstreamError
from .connection import Connection


class Waiter(Protocol):
    """Who wants a connection: the exchange. `whole`: all of its request is here."""

    @property
    def whole(self) -> bool: ...

    def leased(self, connection: Connection) -> None:
        """Here it is."""

    def lease_failed(self, error: UpstreamError) -> None:
        """There is none."""


class Waiting(NamedTuple):
    """One of them, since it began to wait."""

    waiter: Waiter
    until: float
    fresh: bool  # only a connection that never carried a request will do
    failures: int  # how many dials had failed when the wait began
    whole: bool


class Queue(deque[Waiting]):
    """The next comes first. `whole` is how many of them are, or go with those.

    `every` so many seconds one that is not may.
    """

    def __init__(self, every: float, now: float) -> None:
        super().__init__()
        self.whole = 0
        self._every = every
        self._share_at = now + every

    def add(self, entry: Waiting) -> None:
        """Behind those who are like it."""
        if entry.whole:
            self.insert(self.whole, entry)
            self.whole += 1
        else:
            self.append(entry)

    def popleft(self) -> Waiting:
        """The next."""
        entry = super().popleft()
        self.whole -= entry.whole
        return entry

    def remove(self, entry: Waiting) -> None:
        """This one has what it wants."""
        super().remove(entry)
        self.whole -= entry.whole

    def forget(self, waiter: Waiter) -> None:
        """This one wants nothing any more."""
        for entry in self:
            if entry.waiter is waiter:
                self.remove(entry)
                return

    def completed(self, waiter: Waiter) -> None:
        """All of this one's request is here by now: its place is by when it began to wait."""
        for entry in self:
            if entry.waiter is waiter:
                self.remove(entry)
                place = bisect(self, entry.until, 0, self.whole, key=lambda other: other.until)
                self.insert(place, entry._replace(whole=True))
                self.whole += 1
                return

    def share(self, now: float) -> None:
        """Let the first of those that are not whole go with those that are, if it is time."""
        if now >= self._share_at and 0 < self.whole < len(self):
            self._share_at = now + self._every
            self.completed(self[self.whole].waiter)

    def displaced(self) -> Waiter | None:
        """Of those that are not whole, who came last: it waits no more. None: there is none."""
        return self.pop().waiter if len(self) > self.whole else None

    @property
    def until(self) -> float:
        """When the first wait is over."""
        first = self[0].until if self else NEVER
        return min(first, self[self.whole].until) if len(self) > self.whole else first

    def overdue(self, now: float) -> list[Waiter]:
        """Those whose wait is over: they wait no more."""
        over = []
        while self.whole and self[0].until <= now:
            over.append(self.popleft().waiter)
        while len(self) > self.whole and self[self.whole].until <= now:
            over.append(self[self.whole].waiter)
            del self[self.whole]
        return over
