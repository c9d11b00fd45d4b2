"""Owns the worker processes: listening sockets, a process for each place, restarts, their stop.

The sockets are the supervisor's for its whole life. A worker that dies leaves its queue of
connections in the kernel, and the next one in its place accepts them; one that is told to leave has
its successor before it drains, since nobody else accepts on its sockets.

    privilegedStartService   sockets are bound, before twistd --uid gives root away
    startService             workers start; systemd hears READY when the last one serves
    stopService              all drain; what is left after the drain's time is killed
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ..announcement import Announcement
from ..counters import Snapshot, lasting, total
from ..linefile import LineFile
from ..notify import Notifier, status
from ..settings import ListenAddress, Settings
from ..transport.binding import ListenError, bind, or_unprivileged, wanted
from .handover import Handover, Listeners
from .process import Worker

TICK = 1.0  # seconds between two looks at the workers; they report as often
MOST_SILENT = 20  # ticks: a worker that says nothing for so long hangs ...
MOST_SILENT_AT_FIRST = 60  # ... or while it starts: a busy machine may need a while
IMPATIENT = 1.0  # seconds that the second SIGTERM leaves to workers
LINES_AGAIN = 0.05  # seconds until lines that stdout did not take are tried again
# A worker that lived for so many seconds is replaced at once; one that dies young again and again
# has a fault that a busy loop of starts would not cure.
SETTLED = 10.0
BACKOFF = 0.5  # seconds, doubled with every further early death ...
BACKOFF_MOST = 30.0  # ... up to this, which is reached before the 10th
GRACE = 5.0  # seconds beyond timeouts.drain in which a worker must have ended

log = Logger()


class Place:
    """Where a worker is: its sockets, one of each listener, and how those before it fared."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sockets: list[socket.socket] = []
        self.worker: Worker | None = None
        self.early_deaths = 0
        self.restart: IDelayedCall | None = None


class Supervisor(MultiService):
    """So many workers. `handover` makes what they are told of the listeners that are open."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        workers: int,
        handover: Callable[[Listeners], Handover],
        notifier: Notifier,
        announcement: Announcement,
    ) -> None:
        super().__init__()
        self.setName("authproxy")
        self.places = [Place(number) for number in range(1, workers + 1)]
        self.leaving: set[Worker] = set()
        self.restarts = 0
        self.listeners: Listeners = ()
        self._reactor = reactor
        self._settings = settings
        self._handover = handover
        self._notifier = notifier
        self._announcement = announcement
        self._announced = False
        self._gone: Snapshot = {}  # what workers counted that are no more
        # Opened now: a file may be one that only root may write, until twistd --uid.
        self._lines = LineFile(settings.log.access)
        self._again: IDelayedCall | None = None  # when what stdout did not take is tried again
        self._unix: list[tuple[str, int]] = []  # path, inode
        self._timers: list[LoopingCall] = []
        self._stopped: Deferred[None] | None = None
        self._kill: IDelayedCall | None = None

    # Start.

    def privilegedStartService(self) -> None:
        """Bind the listening sockets. Raises ListenError, all or none."""
        super().privilegedStartService()
        opened = []
        try:
            for scheme, asked, fixed in wanted(self._settings.listen):
                address, sockets = or_unprivileged(self._bind, asked, fixed)
                for n, place in enumerate(self.places):
                    place.sockets.append(sockets[n % len(sockets)])
                if address.kind == "tcp":  # any free port: say which
                    address = attrs.evolve(address, port=sockets[0].getsockname()[1])
                opened.append((scheme, address))
        except ListenError:
            self._close_sockets()
            raise
        self.listeners = tuple(opened)

    def _bind(self, address: ListenAddress) -> list[socket.socket]:
        sockets = bind(address, len(self.places))
        if address.kind == "unix":
            self._unix.append((address.path, os.stat(address.path).st_ino))
        return sockets

    def startService(self) -> None:
        """Start the workers, once the reactor runs and hears of their ends."""
        super().startService()
        self._every(TICK, self._tick)
        if self._notifier.watchdog_interval:
            self._every(self._notifier.watchdog_interval / 2, self._alive)
        self._reactor.callWhenRunning(self._begin)

    def _every(self, seconds: float, what: Callable[[], Any]) -> None:
        timer = LoopingCall(what)
        timer.clock = self._reactor
        timer.start(seconds, now=False)
        self._timers.append(timer)

    def _begin(self) -> None:
        for place in self.places:
            self._start(place)

    def _start(self, place: Place) -> None:
        place.restart = None
        worker = Worker(place.number, self._reactor.seconds(), self)
        try:
            worker.start(self._reactor, place.sockets)
        except OSError as e:  # no process, no memory, no descriptors: that may pass
            place.worker = None
            self._replace(place, worker, f"could not be started: {e.strerror or e}")
        else:
            place.worker = worker
            worker.tell("handover", **self._handover(self.listeners).message())

    # What workers tell.

    def worker_ready(self, worker: Worker) -> None:
        """It serves; when all do, so do we."""
        if self._announced:
            log.info("{worker} serves.", worker=worker)
        elif all(place.worker is not None and place.worker.ready for place in self.places):
            self._announced = True
            self._announcement.make(self.listeners, len(self.places))
            self._notifier.send("READY=1", f"MAINPID={os.getpid()}", "STATUS=serving")

    def worker_leaving(self, worker: Worker) -> None:
        """It drains. If we did not ask for that, its place needs another at once."""
        if self._stopped is not None:
            return
        log.info("{worker} drains, and another takes its place.", worker=worker)
        worker.silent = 0
        self.leaving.add(worker)
        for place in self.places:
            if place.worker is worker:
                self._start(place)

    def worker_ended(self, worker: Worker, reason: str) -> None:
        """Keep what it counted, and start another in its place."""
        self._gone = total([self._gone, lasting(worker.snapshot)])
        self.leaving.discard(worker)
        for place in self.places:
            if place.worker is worker:
                place.worker = None
                if self._stopped is None:
                    self._replace(place, worker, reason)
        self._end_if_nobody_is_left()

    def access_lines(self, lines: list[str]) -> None:
        """One access log for all."""
        self._lines.write(lines)
        # A pipe that is full is read in a moment. A disk that is full is not: _tick is enough.
        if self._lines.failing and self._again is None and self._settings.log.access == "-":
            self._again = self._reactor.callLater(LINES_AGAIN, self._write_again)

    def _write_again(self) -> None:
        self._again = None
        self._lines.flush()
        self.access_lines([])

    def _replace(self, place: Place, worker: Worker, reason: str) -> None:
        if self._reactor.seconds() - worker.started >= SETTLED:
            place.early_deaths = 0
        deaths = place.early_deaths
        delay = min(BACKOFF * 2 ** min(deaths - 1, 10), BACKOFF_MOST) if deaths else 0.0
        place.early_deaths = deaths + 1
        self.restarts += 1
        log.error(
            "{worker} {reason}. Its connections are lost; what waits to be accepted is not."
            " Another starts {when}.",
            worker=f"Worker {worker.number}",
            reason=reason,
            when=f"in {delay:g} s" if delay else "now",
        )
        place.restart = self._reactor.callLater(delay, self._start, place)

    # While it runs.

    def counters(self) -> Snapshot:
        """What all workers counted, those that are no more included."""
        workers = [place.worker for place in self.places if place.worker is not None]
        snapshots = [worker.snapshot for worker in (*workers, *self.leaving)]
        own: Snapshot = {
            "worker_restarts": {"": self.restarts},
            "workers": {"": sum(worker.ready for worker in workers)},
        }
        if self._lines.lost:
            own["access_lines_lost"] = {"": self._lines.lost}
        return total([self._gone, own, *snapshots])

    def _tick(self) -> None:
        self._lines.flush()
        for worker in self._workers():
            most = MOST_SILENT if worker.ready else MOST_SILENT_AT_FIRST
            # Counted in ticks: a machine that slept has not heard them either.
            worker.silent += 1
            if worker.silent > most and not worker.killed_for:
                worker.kill(f"it said nothing for {most * TICK:g} s")

    def _alive(self) -> None:
        # Without any worker, after a start that went well, nothing here is alive.
        if not self._announced or self._workers():
            self._notifier.send("WATCHDOG=1", status(self.counters()))

    # Stop.

    def stopService(self) -> Deferred[None]:
        """Let all workers drain. Fires when the last one is gone."""
        if self._stopped is not None:
            return self._stopped
        self._stopped = Deferred()
        self._notifier.send("STOPPING=1", "STATUS=draining")
        super().stopService()
        self._close_sockets()
        for place in self.places:
            if place.restart is not None:
                place.restart.cancel()
                place.restart = None
        for worker in self._workers():
            worker.tell("drain")
        patience = self._settings.timeouts.drain + GRACE
        self._kill = self._reactor.callLater(patience, self._kill_all)
        self._end_if_nobody_is_left()
        return self._stopped

    def abort(self) -> None:
        """Stop now: the second SIGTERM."""
        for worker in self._workers():
            worker.tell("abort")
        if self._kill is not None and self._kill.getTime() > self._reactor.seconds() + IMPATIENT:
            self._kill.reset(IMPATIENT)

    def _workers(self) -> list[Worker]:
        return [*self.leaving, *(p.worker for p in self.places if p.worker is not None)]

    def _kill_all(self) -> None:
        self._kill = None
        for worker in self._workers():
            worker.kill("it did not end in time")

    def _end_if_nobody_is_left(self) -> None:
        if self._stopped is None or self._stopped.called or self._workers():
            return
        for timer in self._timers:
            if timer.running:
                timer.stop()
        if self._kill is not None:
            self._kill.cancel()
            self._kill = None
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._lines.close()
        self._stopped.callback(None)

    def _close_sockets(self) -> None:
        for place in self.places:
            for skt in place.sockets:  # one of several places is closed more than once: no harm
                skt.close()
            place.sockets.clear()
        for path, inode in self._unix:
            with suppress(OSError):
                if os.stat(path).st_ino == inode:  # else it is somebody else's by now
                    os.unlink(path)
        self._unix.clear()
