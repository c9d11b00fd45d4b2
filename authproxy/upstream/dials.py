"""Owns the dials of one pool: which are under way, and which server comes next.

A server that failed since somebody began to wait is dialled for them again only when every other
failed, too. Beside a slow dial another server is dialled; the idle connections of the slow one are
used as before, for it may only be busy. How many dials there may be is the pool's business, how a
connection is made the dialler's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..deadlines import NEVER, Deadlines
from ..errors import ConnectFailed
from .server import Server, by_load

if TYPE_CHECKING:
    from .connection import Connection

# How a connection is made: a Deferred of an open one, or a failure whose value is an UpstreamError.
Dial = Callable[[Server], "Deferred[Connection]"]

# Seconds after which a dial is no longer waited for alone: another server is dialled beside it. One
# that is there takes a few milliseconds, one behind a dead network all of timeouts.connect.
SLOW_DIAL = 1.0


class Dials:
    """Dials to `servers`, each made by `dial`; `dialled` and `failed` hear how it ended.

    `under_way`, the oldest first, says of each its server and when it becomes slow: NEVER if it is
    slow, or there is no other server. `failures` counts the dials that failed.
    """

    def __init__(
        self,
        servers: list[Server],
        deadlines: Deadlines,
        dial: Dial,
        dialled: Callable[[Connection], None],
        failed: Callable[[Server, Failure], None],
    ) -> None:
        self.dial = dial
        self.under_way: dict[Deferred[Connection], tuple[Server, float]] = {}
        self.failures = 0
        self._servers = servers
        self._deadlines = deadlines
        self._dialled = dialled
        self._failed = failed

    def next_server(self, failures: int) -> tuple[Server, bool]:
        """The server to dial, and whether it is one that was not tried in vain since there were so
        many failures."""
        servers = self._servers
        if len(servers) > 1:
            servers = by_load(servers, self._deadlines.now())
        untried = [s for s in servers if s.failed_last <= failures and not s.slow]
        return (untried or servers)[0], bool(untried)

    def begin(self, server: Server) -> None:
        """Dial this one."""
        server.dialling += 1
        slow_at = self._deadlines.now() + SLOW_DIAL if len(self._servers) > 1 else NEVER
        dialling = self.dial(server)
        self.under_way[dialling] = server, slow_at
        dialling.addBoth(self._ended, server, dialling)

    def _ended(
        self, result: Connection | Failure, server: Server, dialling: Deferred[Connection]
    ) -> None:
        if self.under_way.pop(dialling, None) == (server, NEVER) and len(self._servers) > 1:
            server.slow -= 1
        server.dialling -= 1
        if isinstance(result, Failure):
            self.failures += 1
            server.failed(self.failures, self._deadlines.now())
            self._failed(server, result)
        else:
            server.recovered()
            self._dialled(result)

    def next_slow(self) -> float:
        """When the next of them becomes slow (clock seconds)."""
        for _, slow_at in self.under_way.values():
            if slow_at < NEVER:
                return slow_at
        return NEVER

    def become_slow(self, now: float) -> None:
        """Those that have taken too long by now are slow."""
        for dialling, (server, slow_at) in self.under_way.items():
            if slow_at <= now:
                self.under_way[dialling] = server, NEVER
                server.slow += 1
                if server.health is not None:
                    server.health.doubt(now)

    def too_long(self) -> ConnectFailed | None:
        """What those hear who waited in vain for the dials under way; None where there are none."""
        dialled = [server for server in self._servers if server.dialling]
        if not dialled:
            return None
        names = " and ".join(server.name for server in dialled)
        cause = "a firewall in between"
        if any(s.upstream.kind == "tcp" and not s.upstream.is_address for s in dialled):
            cause += ", or does this machine's DNS not answer"
        return ConnectFailed(f"{names} made no connection within pool.wait. Is {cause}?")

    def give_up(self) -> None:
        """End them all."""
        for dialling in list(self.under_way):
            dialling.cancel()
