"""Owns the connections to the servers of one site, and who gets which.

Every decision is made in `_assign`, which does no I/O of its own and is called whenever something
changed: a connection came back, a dial ended, somebody began to wait. Rules:

- The server with the fewest connections in use is asked first. One that checks found down is asked
  only when no other is up, one whose last dial failed not before its backoff is over, if there are
  others.
- Whoever waits hears of a failed dial only when every server failed since the wait began. Nothing
  was sent, so that holds for any method. Which server is dialled next is said by dials.py.
- On a server the connection that was given back last goes first: the others age, and close.
- More than pool.idle are kept for a moment only: who is busy needs them again at once.
- Who waits is served in order (queue.py), and each wait has a deadline.
- Where all connections are in use, those whose own clients are waited for give way (room.py).
"""

from __future__ import annotations

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..deadlines import NEVER, Deadlines
from ..errors import NoCapacity, UpstreamError
from ..settings import PoolSettings, Upstream
from ..sitecounts import SiteCounts
from .connection import Connection
from .dials import Dial, Dials
from .queue import Queue, Waiter, Waiting
from .room import LEAST, LOOK, make_room
from .server import Server, by_load

# Seconds that a connection beyond pool.idle is kept. Closed at once, those that a burst needs would
# be dialled again and again: with 128 requests under way and 32 idle, 199 us each instead of 34.
EXCESS = 2.0
# One of so many connections is for uploads, also while whole requests wait without end. They may
# keep one for room.LEAST; then they give way.
UPLOADS = 8
# A peer's close is known at once while the reactor turns; what may have come since its last turn is
# asked for when a connection was idle for longer than this many seconds.
PEEK_AFTER = 0.5

_FULL = "pool.waiting requests wait for an upstream connection already"

log = Logger()


class Pool:
    """The persistent connections of one site. `counts` has what was counted of it."""

    def __init__(
        self,
        upstreams: tuple[Upstream, ...],
        settings: PoolSettings,
        deadlines: Deadlines,
        dial: Dial,
    ) -> None:
        self.servers = [Server(self, upstream) for upstream in upstreams]
        self.deadline = NEVER
        self.counts = SiteCounts()  # until it is a site's
        self._dials = Dials(self.servers, deadlines, dial, self._dialled, self._dial_failed)
        self._settings = settings
        self._deadlines = deadlines
        self._queue = Queue(LEAST * UPLOADS / settings.connections, deadlines.now())
        self._closed = False
        self._retired = False
        self._making_room = False
        self._look_at = 0.0  # when it may be worth it again to look for who gives way
        deadlines.add(self)

    def __repr__(self) -> str:
        servers = ", ".join(
            f"{s.upstream} idle={len(s.idle)} leased={s.leased} dialling={s.dialling}"
            for s in self.servers
        )
        return f"<Pool {servers} waiting={len(self._queue)}>"

    @property
    def waiting(self) -> int:
        """How many exchanges wait for a connection."""
        return len(self._queue)

    @property
    def open(self) -> int:
        """Connections that exist or are being made."""
        return sum(len(s.connections) + s.dialling for s in self.servers)

    # What exchanges call.

    def take(self, waiter: Waiter, fresh: bool = False) -> Connection | None:
        """A connection now, or None: then `waiter` is told later. Raises NoCapacity.

        With `fresh` a connection that never carried a request is wanted (the second try of a
        request that a stale connection lost).
        """
        if not fresh and not self._queue:
            connection = self._take_idle()
            if connection is not None:
                return connection
        # Those who have a dial of their own do not wait for anybody else's connection.
        waiting = len(self._queue) - sum(server.dialling for server in self.servers)
        displaced = None
        if waiting >= self._settings.waiting and not self._may_dial():
            displaced = self._queue.displaced() if waiter.whole else None
            if displaced is None:
                raise NoCapacity(_FULL)
        until = self._deadlines.now() + self._settings.wait
        self._queue.add(Waiting(waiter, until, fresh, self._dials.failures, waiter.whole))
        self._assign()
        if displaced is not None:
            displaced.lease_failed(NoCapacity(_FULL))
        return None

    def waiter_completed(self, waiter: Waiter) -> None:
        """All of its request is here. (So who is displaced has no further request behind it, which
        would displace the next: with 80 of them that went too deep.)"""
        self._queue.completed(waiter)

    def forget_waiter(self, waiter: Waiter) -> None:
        """This one no longer wants a connection."""
        self._queue.forget(waiter)

    def cut(self, server: Server) -> None:
        """It cut a request's connection before it answered. Who sends the request again goes to
        another server, where there is one: a process that dies takes connections to its end."""
        if len(self.servers) > 1:
            server.avoid(self._deadlines.now())

    # What connections call.

    def give_back(self, connection: Connection) -> None:
        """Keep it, or hand it to who waits."""
        server, settings = connection.server, self._settings
        now = self._deadlines.now()
        if (
            self._closed
            or (not settings.idle and not self._queue)
            or now - connection.opened_at >= settings.max_age
        ):
            connection.close()
        else:
            server.leased -= 1
            connection.idle_since = now
            connection.reused = True
            few = len(server.idle) < settings.idle
            connection.deadline = now + (settings.idle_timeout if few else EXCESS)
            server.idle.append(connection)
        if self._queue:
            self._assign()

    def forget(self, connection: Connection) -> None:
        """It is gone; a place is free."""
        server = connection.server
        if connection not in server.connections:
            return
        server.connections.remove(connection)
        if connection in server.idle:
            server.idle.remove(connection)
        else:
            server.leased -= 1
        if self._queue:
            self._assign()

    # Decisions.

    def _take_idle(self) -> Connection | None:
        now = self._deadlines.now()
        servers = self.servers
        for server in servers if len(servers) == 1 else by_load(servers, now):
            while server.idle:
                connection = server.idle.pop()
                if now - connection.idle_since < PEEK_AFTER or connection.alive():
                    server.leased += 1
                    self.counts.reuses += 1
                    connection.deadline = NEVER
                    return connection
                # Forgotten first: its abort must not lead to _assign, which may be our caller.
                server.connections.remove(connection)
                connection.abort()
            if server.failed_until <= now and not server.slow and self._may_dial():
                return None  # the least loaded server first, even if that means a new connection
        return None

    def _may_dial(self) -> bool:
        return self.open < self._settings.connections

    def _assign(self) -> None:
        """Serve who waits, as far as connections are there or may be made."""
        self._queue.share(self._deadlines.now())
        while (entry := self._first_for_used()) is not None:
            connection = self._take_idle()
            if connection is None:
                break
            self._queue.remove(entry)
            entry.waiter.leased(connection)
        dialling = sum(s.dialling - s.slow for s in self.servers)
        while dialling < len(self._queue) and self._may_dial() and not self._closed:
            server, untried = self._dials.next_server(self._queue[0].failures)
            if not untried and any(s.slow for s in self.servers):
                break  # all failed, but for the slow ones: theirs is the last word
            self.counts.dials += 1
            self._dials.begin(server)
            dialling += 1
        if dialling < len(self._queue) and not self._may_dial():
            self._make_room(len(self._queue) - dialling)
        self._watch()

    def _make_room(self, wanted: int) -> None:
        now = self._deadlines.now()
        if self._making_room or now < self._look_at:
            return
        self._making_room = True  # each that gives way leads back here, and is dialled for
        try:
            if make_room(self.servers, wanted, now) < wanted:
                # It looks at every connection: in a pool that is busy, not with each request.
                self._look_at = now + LOOK
        finally:
            self._making_room = False

    def _first_for_used(self) -> Waiting | None:
        """The first in the queue that takes a connection that carried requests. Who wants a fresh
        one does so only where none is made and none may be."""
        for entry in self._queue:
            if not entry.fresh or not (self._dials.under_way or self._may_dial()):
                return entry
        return None

    # What dials tell.

    def _dialled(self, connection: Connection) -> None:
        server = connection.server
        server.connections.add(connection)
        server.leased += 1
        if self._queue:
            waiter, *_ = self._queue.popleft()
            self._watch()
            waiter.leased(connection)
        else:
            self.give_back(connection)

    def _dial_failed(self, server: Server, reason: Failure) -> None:
        self.counts.dial_failures += 1
        if self._closed:
            return
        error = reason.value
        if not isinstance(error, UpstreamError):
            log.failure("Dialling {upstream} failed", reason, upstream=server.upstream)
            error = UpstreamError("an internal error while dialling")
        if len(self._queue) > sum(s.dialling for s in self.servers):
            _, untried = self._dials.next_server(self._queue[0].failures)
            if not untried:  # this dial was one waiter's last chance
                waiter, *_ = self._queue.popleft()
                waiter.lease_failed(error)
        self._assign()

    # What checks, the clock and a reload tell.

    def mark(self, server: Server, down: bool) -> None:
        """What its checks say: whether a server is down, or (again or still) up."""
        server.checked(down)
        if not down:
            if server.failures:
                server.recovered()
                self._assign()
        elif any(not other.down for other in self.servers):
            # They would wait for it to come back, and then fail the first POST that gets one.
            server.close_idle()

    def deadline_passed(self, now: float) -> None:
        """Whoever waited too long hears it; a slow dial gets company."""
        overdue = self._queue.overdue(now)
        self._dials.become_slow(now)
        # Before calling out: who raises there must not stop the clock of all others.
        self._watch()
        for waiter in overdue:
            try:
                waiter.lease_failed(self._too_long())
            except Exception:
                log.failure("A request that waited too long could not be answered")
        try:
            self._assign()
        except Exception:
            log.failure("A request could not go on with its connection")

    def _too_long(self) -> UpstreamError:
        no_place = "no upstream connection was free within pool.wait"
        return self._dials.too_long() or NoCapacity(no_place)

    def dial_with(self, dial: Dial) -> None:
        """Make further connections this way."""
        self._dials.dial = dial

    def retire(self) -> None:
        """Another pool takes new requests: serve those that are here, and keep no connection."""
        self._retired = True
        self._settings = attrs.evolve(self._settings, idle=0)
        self._watch()
        for server in self.servers:
            server.wind_down()

    def _watch(self) -> None:
        """Set the deadline by who waits first, and by what they wait for. Nothing refers to a
        retired pool but its users."""
        queue = self._queue
        self.deadline = NEVER
        if queue:
            full = NEVER if self._may_dial() else self._look_at
            self.deadline = min(queue.until, self._dials.next_slow(), full)
        if self._retired:
            (self._deadlines.add if queue else self._deadlines.discard)(self)

    def close(self) -> None:
        """No more: checks end, waiters are told, idle connections closed, dials given up."""
        self._closed = True
        self._deadlines.discard(self)
        while self._queue:
            waiter, *_ = self._queue.popleft()
            waiter.lease_failed(NoCapacity("the proxy is stopping"))
        self._dials.give_up()
        for server in self.servers:
            server.wind_down()
