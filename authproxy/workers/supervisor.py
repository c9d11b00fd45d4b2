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
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from ..announcement import Announcement
from ..counters import CERTIFICATES, Snapshot, lasting, total
from ..listeners import Listeners, Opened
from ..loading import Loaded
from ..notify import Notifier, status
from ..operations_log import THRESHOLD
from ..settings import ListenAddress
from ..transport.binding import bind
from .handover import Addresses, Handover
from .lines import AccessLines
from .process import Worker

TICK = 1.0  # seconds between two looks at the workers; they report as often
MOST_SILENT = 20  # ticks: a worker that says nothing for so long hangs ...
MOST_SILENT_AT_FIRST = 60  # ... or while it starts: a busy machine may need a while
# Seconds that the second SIGTERM leaves to workers: one that is killed loses the access lines of
# what it cuts.
IMPATIENT = 5.0
# A worker that lived for so many seconds is replaced at once; one that dies young again and again
# has a fault that a busy loop of starts would not cure.
SETTLED = 10.0
BACKOFF = 0.5  # seconds, doubled with every further early death ...
BACKOFF_MOST = 30.0  # ... up to this, which is reached before the 10th
GRACE = 5.0  # seconds beyond timeouts.drain in which a worker must have ended

log = Logger()


class Place:
    """Where a worker is, and how those before it fared."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: Worker | None = None
        self.early_deaths = 0
        self.restart: IDelayedCall | None = None


class Supervisor(MultiService):
    """So many workers, which do what was `loaded`, with these options of the command line."""

    def __init__(
        self,
        reactor: Any,
        loaded: Loaded,
        workers: int,
        overrides: Mapping[str, str],
        notifier: Notifier,
        announcement: Announcement,
    ) -> None:
        super().__init__()
        self.setName("authproxy")
        self.places = [Place(number) for number in range(1, workers + 1)]
        self.leaving: set[Worker] = set()
        self.restarts = 0
        self.listeners = Listeners(
            lambda scheme, address: self._bind(address),
            lambda sockets: int(sockets[0].getsockname()[1]),
            self._close,
            lambda scheme, sockets: None,  # it is the workers' to know
        )
        self._reactor = reactor
        self._loaded = loaded
        self._overrides = overrides
        self._notifier = notifier
        self._announcement = announcement
        self._announced = False
        self._gone: Snapshot = {}  # what workers counted that are no more
        self._lines = AccessLines(reactor, loaded.settings.log.access)
        self._unix: dict[str, int] = {}  # path -> inode of the sockets that we made
        self._timers: list[LoopingCall] = []
        self._stopped: Deferred[None] | None = None
        self._kill: IDelayedCall | None = None

    # Start.

    def privilegedStartService(self) -> None:
        """Bind the listening sockets. Raises ListenError, all or none."""
        super().privilegedStartService()
        self.listeners.open_new(self._loaded.settings.listen)
        self.listeners.commit()

    def _bind(self, address: ListenAddress) -> list[socket.socket]:
        sockets = bind(address, len(self.places))
        if address.kind == "unix":
            self._unix[address.path] = os.stat(address.path).st_ino
        return sockets

    def _close(self, sockets: list[socket.socket]) -> None:
        path = sockets[0].getsockname() if sockets[0].family == socket.AF_UNIX else ""
        for skt in sockets:
            skt.close()
        inode = self._unix.pop(path, None)
        with suppress(OSError):
            if inode is not None and os.stat(path).st_ino == inode:  # else it is somebody else's
                os.unlink(path)

    def _sockets_of(
        self, place: Place, among: Iterable[Opened[list[socket.socket]]]
    ) -> list[socket.socket]:
        return [opened.what[(place.number - 1) % len(opened.what)] for opened in among]

    def _handover(self) -> dict[str, Any]:
        loaded = self._loaded
        return Handover(
            loaded.text,
            loaded.settings.path,
            self._overrides,
            len(self.places),
            self._addresses(),
            loaded.identity,
        ).message()

    def _addresses(self) -> Addresses:
        return tuple((opened.scheme, opened.address) for opened in self.listeners.open)

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
            worker.start(self._reactor, self._sockets_of(place, self.listeners.open))
        except OSError as e:  # no process, no memory, no descriptors: that may pass
            place.worker = None
            self._replace(place, worker, f"could not be started: {e.strerror or e}")
        else:
            place.worker = worker
            worker.tell("handover", **self._handover())

    # What workers tell.

    def worker_ready(self, worker: Worker) -> None:
        """It serves; when all do, so do we."""
        if self._announced:
            log.info("{worker} serves.", worker=worker)
        elif all(place.worker is not None and place.worker.ready for place in self.places):
            self._announced = True
            self._announcement.make(self._addresses(), len(self.places))
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

    def access_lines(self, worker: Worker, lines: list[str]) -> None:
        """What it served."""
        self._lines.write(lines, worker.behind)

    def _replace(self, place: Place, worker: Worker, reason: str) -> None:
        if self._reactor.seconds() - worker.started >= SETTLED:
            place.early_deaths = 0
        deaths = place.early_deaths
        delay = min(BACKOFF * 2 ** min(deaths - 1, 10), BACKOFF_MOST) if deaths else 0.0
        place.early_deaths = deaths + 1
        self.restarts += 1
        log.error(
            "this machine: {worker} {reason}. Its connections are lost; what waits to be accepted"
            " is not. Another starts {when}.",
            worker=str(worker),
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
            CERTIFICATES: self._loaded.identity.expiries(self._loaded.settings),
        }
        if self._lines.lost:
            own["access_lines_lost"] = {"": self._lines.lost}
        return total([self._gone, own, *snapshots])

    def reload(self, loaded: Loaded) -> Deferred[None]:
        """Let all workers go on with this. Fires when they do.

        Raises ListenError, or OSError for the access log: then nothing has changed.
        """
        self.listeners.open_new(loaded.settings.listen)
        try:
            self._lines.change(loaded.settings.log.access)
        except OSError:
            self.listeners.give_up()
            raise
        new = self.listeners.new
        self.listeners.commit()  # workers that begin from here on know nothing else
        self._loaded = loaded
        THRESHOLD.set(loaded.settings.log.level)
        handover = self._handover()
        told = [
            place.worker.reload(handover, self._sockets_of(place, new)).addCallback(
                self._reloaded, place.worker
            )
            for place in self.places
            if place.worker is not None
        ]
        return DeferredList(told).addCallback(lambda _: self._lines.changed())

    def _reloaded(self, problem: str, worker: Worker) -> None:
        if problem:
            log.error(
                "this machine: {worker} cannot reload, and another takes its place: {problem}",
                worker=worker,
                problem=problem,
            )
            worker.tell("drain")

    @property
    def draining(self) -> bool:
        """Whether it stops."""
        return self._stopped is not None

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
        self.listeners.close()
        for place in self.places:
            if place.restart is not None:
                place.restart.cancel()
                place.restart = None
        for worker in self._workers():
            worker.tell("drain")
        patience = self._loaded.settings.timeouts.drain + GRACE
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
        self._lines.close()
        self._stopped.callback(None)
