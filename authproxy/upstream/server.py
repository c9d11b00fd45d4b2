"""Owns what is known of one upstream server: its connections, its load, and how well it does.

What dials show (failures, backoff) and what checks say (`down`, health.py) meet here. In which
order servers are asked follows from it; who gets which connection is the pool's decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..settings import Upstream

if TYPE_CHECKING:
    from .connection import Connection
    from .health import Health

BACKOFF = 1.0  # seconds that a server is avoided after a failed dial; doubled up to the most
BACKOFF_MOST = 16.0
# What is wrong with a server weighs more than any load: this for each failure until its last, ...
FAILED = 1 << 20
DOWN = 1 << 60  # ... and this more than all failures.


class Keeper(Protocol):
    """To whom connections come back: the pool."""

    def give_back(self, connection: Connection) -> None:
        """It is free for another request."""

    def forget(self, connection: Connection) -> None:
        """It is closed, or became a relay."""


class Server:
    """One upstream server.

    `leased`, `dialling` and `slow` (of these, those that take too long to be waited for alone)
    count connections. `down` is what checks say, `health` what they know (None where nobody set
    any up). `well`: neither down, nor to be avoided; then its rank is its load.
    """

    __slots__ = (
        "connections",
        "dialling",
        "down",
        "failed_last",
        "failed_until",
        "failures",
        "health",
        "idle",
        "leased",
        "name",
        "pool",
        "slow",
        "upstream",
        "well",
    )

    def __init__(self, pool: Keeper, upstream: Upstream) -> None:
        self.pool = pool
        self.upstream = upstream
        self.name = str(upstream)
        self.idle: list[Connection] = []
        self.leased = 0
        self.dialling = 0
        self.slow = 0
        self.connections: set[Connection] = set()
        self.failed_until = 0.0
        self.failed_last = 0  # the number of the failure: later is more
        self.failures = 0
        self.down = False
        self.health: Health | None = None
        self.well = True

    def forget(self, connection: Connection) -> None:
        """It is closed, or became a relay."""
        self.pool.forget(connection)

    def rank(self, now: float) -> int:
        """The server with the lowest one is to be asked first; of those that failed it is the one
        that was tried longest ago."""
        rank = self.leased + self.dialling
        if self.failed_until > now:
            rank += FAILED * (self.failed_last + 1)  # 0: no dial failed, a request was cut
        return rank + DOWN if self.down else rank

    def failed(self, number: int, now: float) -> None:
        """A dial failed; `number` orders the failures of all servers."""
        self.failed_last = number
        self.avoid(now)

    def avoid(self, now: float) -> None:
        """Let others be asked first for a while: a dial failed, or a request was cut. After a cut
        it may take connections yet: those who wait still try it."""
        self.well = False
        if self.failed_until <= now:  # of several dials at once only the first counts
            self.failures = min(self.failures + 1, 10)
        self.failed_until = now + min(BACKOFF * 2 ** (self.failures - 1), BACKOFF_MOST)
        if self.health is not None:
            self.health.doubt(now)

    def recovered(self) -> None:
        """It takes connections again."""
        self.failures = self.failed_last = 0
        self.failed_until = 0.0
        self.well = not self.down

    def checked(self, down: bool) -> None:
        """What its checks say."""
        self.down = down
        self.well = not down and not self.failures

    def close_idle(self) -> None:
        """Close the connections that nobody uses."""
        for connection in list(self.idle):
            connection.close()

    def wind_down(self) -> None:
        """No more checks, no idle connections."""
        if self.health is not None:
            self.health.close()
        self.close_idle()


def by_load(servers: list[Server], now: float) -> list[Server]:
    """Servers in the order in which they are to be asked."""
    return sorted(servers, key=lambda s: s.leased + s.dialling if s.well else s.rank(now))
