"""Owns when upstream servers are checked, and what follows from it: which of them are up.

What follows is an order: a pool asks a server that is down only when no other is up. No request
fails because of a check, and none waits for one. A site's only server is checked for those who
look after it. Every process checks for itself. How a check is made is check.py's.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from zlib import crc32

from twisted.logger import Logger

from ..deadlines import Deadlines
from ..settings import HealthSettings
from ..wire import serialise
from .check import OK, Check
from .dials import Dial
from .server import Server

if TYPE_CHECKING:
    from .pool import Pool

log = Logger()


class Health:
    """What the checks of one server say of it.

    `site` and `name` say which server it is. `up` since `since` (seconds of the clock); `error` is
    what was wrong with the last check, "" for nothing; `latency` the seconds that the last good one
    took; `results` counts by check.RESULTS.
    """

    def __init__(self, pool: Pool, server: Server, site: str, deadlines: Deadlines) -> None:
        self.site = site
        self.name = server.name
        self.up = True  # until something else is known: nobody waits for a first check
        self.since = deadlines.now()
        self.error = ""
        self.latency = 0.0
        self.deadline = self.since
        self._pool = pool
        self._server = server
        self._deadlines = deadlines
        self._check: Check | None = None
        self._begun = 0.0
        self._known = False  # whether a check was ever good
        self._unlike = 0  # results in a row that speak against `up`

    def __repr__(self) -> str:
        return f"<Health {self.name} {'up' if self.up else 'down'} {self.error!r}>"

    @property
    def results(self) -> Counter[str]:
        """How many checks ended how."""
        checks = self._pool.counts.checks
        return Counter(
            {result: count for (name, result), count in checks.items() if name == self.name}
        )

    def go_on(self, settings: HealthSettings, fields: bytes, dial: Dial, phase: float) -> None:
        """Check in this way from now on: at once, again when `phase` (0 to 1) of an interval is
        over, which spreads the checks of many servers, and then every interval.

        `fields` is the field section of the GET. Without a target the server counts as up.
        """
        self._settings = settings
        self._fields = fields
        self._dial = dial
        self._phase = phase
        if settings.target:
            self._deadlines.add(self)
            return
        self.close()
        self.error = ""
        if not self.up:
            self.up, self.since = True, self._deadlines.now()
            self._pool.mark(self._server, down=False)

    def close(self) -> None:
        """No more checks."""
        self._deadlines.discard(self)
        check, self._check = self._check, None
        if check is not None:
            check.close()

    def doubt(self, now: float) -> None:
        """A dial for a request failed, or takes long: look soon, but not again and again."""
        if self._check is None and self.up:
            soon = max(now, self._begun + self._settings.interval_down)
            self.deadline = min(self.deadline, soon)

    def deadline_passed(self, now: float) -> None:
        """It is time for a check, or too late for the answer of one."""
        check = self._check
        if check is not None:
            words = check.halted_at()
            check.close()
            self._checked("timeout", words)
            return
        self._begun = now
        self.deadline = now + self._settings.timeout
        target = self._settings.target
        self._check = check = Check(self._server, target, self._fields, self._checked)
        check.begin(self._dial)

    def _checked(self, result: str, words: str) -> None:
        self._check = None
        now, settings = self._deadlines.now(), self._settings
        checks, key = self._pool.counts.checks, (self.name, result)
        checks[key] = checks.get(key, 0) + 1
        self.error = words
        good, first = result == OK, not self._known
        self._known = self._known or good
        if good:
            self.latency = now - self._begun
            needed = settings.successes
        else:
            needed = settings.failures if self._known else 1  # never seen up: one says enough
        self._unlike = 0 if good is self.up else self._unlike + 1
        lasted = now - self.since
        turned = self._unlike >= needed
        if turned:
            self.up, self.since, self._unlike = good, now, 0
        interval = settings.interval if good and self.up else settings.interval_down
        if good and first:
            interval *= self._phase
        self.deadline = max(now, self._begun + interval)
        self._pool.mark(self._server, down=not self.up)
        if turned:
            self._say(lasted)

    def _say(self, lasted: float) -> None:
        if self.up:
            log.info(
                "upstream: Site {site}: {name} is up again; it was down for {lasted:.0f} s.",
                site=self.site, name=self.name, lasted=lasted,
            )  # fmt: skip
            return
        others = [server for server in self._pool.servers if server is not self._server]
        if not others:
            means = "it is asked all the same, there is no other"
        elif all(server.down for server in others):
            means = "and so is every other: all are asked all the same"
        else:
            means = "others are asked"
        log.error(
            "upstream: Site {site}: {name} is down ({means}): {why}",
            site=self.site, name=self.name, means=means, why=self.error,
        )  # fmt: skip


def watch(
    pool: Pool,
    site: str,
    host: str,
    settings: HealthSettings,
    dial: Dial,
    deadlines: Deadlines,
) -> None:
    """Check the servers of a pool until it is closed.

    `site` is its name in the log, `host` the Host of the GETs, "" for each server's own. Of a pool
    that is watched already the checks go on with these settings, and with what they know.
    """
    for number, server in enumerate(pool.servers):
        health = server.health
        if health is None:
            health = server.health = Health(pool, server, site, deadlines)
        fields = serialise.section(
            [
                (b"host", (host or _host(server)).encode("ascii")),
                (b"user-agent", b"authproxy-health"),
                (b"accept", b"*/*"),
                (b"connection", b"close"),
            ]
        )
        phase = (crc32(site.encode()) / 2**32 + number / len(pool.servers)) % 1
        health.go_on(settings, fields, dial, phase)


def _host(server: Server) -> str:
    host = server.upstream.host.partition("%")[0] or "localhost"  # a zone is of this machine
    return f"[{host}]" if ":" in host else host
