"""Owns the admin listener as a service: its socket, its limits, its samples and its memory.

It is twisted.web's server, not ours: no client of authentik reaches it. It stays open while the
proxy drains, so that load balancers hear of that (/readyz).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.server import Request, Site

from ..counters import RELOADED, RELOADED_AT, Snapshot
from ..identity import Identity
from ..settings import ListenAddress, Settings
from ..transport.binding import ListenError, bind
from ..transport.listening import listen_beside
from .history import EVERY, History
from .recent import Recent
from .report import Now, Report, readiness, report
from .resources import Answers, Guard, Pages

# More than anybody needs; after that the oldest has to go. admission.RESERVE has descriptors for
# them.
CONNECTIONS = 32
IDLE = 30.0  # seconds without an octet
OLDEST = 60.0  # seconds that a connection may exist

log = Logger()


@frozen
class Sources:
    """Where the admin side reads: calls, since a reload changes what they return.

    `read` gives the counters of all processes, `last_reload` what came of the last one: ("" or why
    it was refused; seconds since the epoch). `steady` and `wall` are clocks in seconds.
    """

    read: Callable[[], Snapshot]
    settings: Callable[[], Settings]
    identity: Callable[[], Identity]
    draining: Callable[[], bool]
    last_reload: Callable[[], tuple[str, float] | None]
    steady: Callable[[], float]
    wall: Callable[[], float]


class _Request(Request):
    def gotLength(self, length: int | None) -> None:
        """No content is wanted: twisted.web would put it into a file, however large it is."""
        if length != 0:
            self.channel.forceAbortClient()
        super().gotLength(0)


class _Channel(HTTPChannel):
    """A connection that its site knows of, for one request.

    More would be answered without anybody reading: 8 connections with 3,000 requests each on their
    way made this process grow by 1.2 GB.
    """

    site: Any
    transport: Any
    _end: IDelayedCall | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self._end = self.callLater(OLDEST, self.abort)
        self.site.opened(self)

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        """No."""
        return False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._forget()
        super().connectionLost(reason)

    def abort(self) -> None:
        """End it now."""
        self._forget()
        self.transport.abortConnection()

    def _forget(self) -> None:
        self.site.open.pop(self, None)
        if self._end is not None and self._end.active():
            self._end.cancel()


class _Site(Site):
    """`open` are the connections, the oldest first (an ordered set)."""

    noisy = False
    protocol = _Channel  # type: ignore[assignment]
    requestFactory = _Request

    def __init__(self, root: Pages, reactor: Any) -> None:
        super().__init__(root, timeout=IDLE, reactor=reactor)
        self.open: dict[_Channel, None] = {}

    def opened(self, channel: _Channel) -> None:
        """One more; where there are too many the oldest makes room, so that neither a flood nor
        those who keep theirs open can lock anybody out."""
        if len(self.open) >= CONNECTIONS:
            next(iter(self.open)).abort()
        self.open[channel] = None

    def close(self) -> None:
        """End all connections."""
        for channel in list(self.open):
            channel.abort()

    def startFactory(self) -> None:
        """There is no log, and so no clock for its lines."""

    def stopFactory(self) -> None:
        """There is no log."""

    def log(self, request: Any) -> None:
        """A scrape every few seconds is no news."""


class Admin(Service):
    """Serves what `sources` tell at listen.admin, from privilegedStartService to stopService."""

    def __init__(self, sources: Sources, reactor: Any) -> None:
        self.port: Any = None
        self.history = History()
        self.recent: Any = Recent(sources.wall)  # an ILogObserver, which mypy cannot see
        self._sources = sources
        self._reactor = reactor
        self._started = sources.steady()
        self._host = socket.gethostname()
        self._site: _Site | None = None
        self._address: ListenAddress | None = None  # of the settings
        self._next: tuple[ListenAddress | None, socket.socket | None] = None, None
        self._samples = LoopingCall(self.sample)
        self._samples.clock = reactor

    def privilegedStartService(self) -> None:
        """Bind. Raises ListenError, but where the address is only the default, it is done without:
        a second authproxy on a machine must not fail for its metrics."""
        self.open_new()
        self.commit()

    # A change has two steps, as that of the other listeners has.

    def open_new(self) -> None:
        """Bind what listen.admin says now, if that is another address than the one that is open.
        Raises ListenError: then nothing has changed."""
        listen = self._sources.settings().listen
        self._next = self._address, None
        if listen.admin == self._address:
            return
        skt = None
        if listen.admin is not None:
            try:
                [skt] = bind(listen.admin)
            except ListenError as e:
                if listen.admin_explicit:
                    raise
                log.warn(
                    'this machine: No metrics and no status page: {reason} Or set admin = "".',
                    reason=str(e),
                )
                return
        self._next = listen.admin, skt

    def commit(self, _: object = None) -> Any:
        """Go on there. Fires when the old one is closed."""
        address, skt = self._next
        if address == self._address:
            return None
        closing = self._close()
        self._address, self._next = address, (address, None)
        if address is not None and skt is not None:
            self._listen(address, skt)
        return closing

    def give_up(self, reason: Failure) -> Failure:
        """Stay where it is."""
        _, skt = self._next
        if skt is not None:
            skt.close()
        self._next = self._address, None
        return reason

    def _listen(self, address: ListenAddress, skt: socket.socket) -> None:
        guard = Guard((address.host, self._host), skt.family == socket.AF_UNIX)
        self._site = _Site(Pages(Answers(self, self._sources.steady), guard), self._reactor)
        ours = address.kind == "unix"  # and not systemd's, whose mode is SocketMode=
        self.port = listen_beside(skt, self._site, self._reactor, ours=ours)
        if self.running:
            self._begin()

    def _begin(self) -> None:
        if not self._samples.running:
            globalLogPublisher.addObserver(self.recent)
            self._samples.start(EVERY)
        log.info("The status page is on {where}.", where=self._where())

    def startService(self) -> None:
        """Begin to remember what there is to show."""
        super().startService()
        if self.port is not None:
            self._begin()

    def stopService(self) -> Any:
        """Close."""
        super().stopService()
        if self._samples.running:
            self._samples.stop()
            globalLogPublisher.removeObserver(self.recent)
        return self._close()

    def _close(self) -> Any:
        if self._site is not None:
            self._site.close()
        port, self.port = self.port, None
        return port.stopListening() if port is not None else None

    def _where(self) -> str:
        host: Any = self.port.getHost()
        if not hasattr(host, "port"):
            return f"unix:{os.fsdecode(host.name)}"
        return f"http://{f'[{host.host}]' if ':' in host.host else host.host}:{host.port}/"

    def sample(self) -> None:
        """Add to the history."""
        self.history.add(self._sources.steady(), self._sources.read())

    # What is asked for.

    def report(self) -> Report:
        """Everything, as of now."""
        sources = self._sources
        steady = sources.steady()
        return report(
            Now(sources.wall(), steady, steady - self._started, self._host),
            sources.settings(),
            sources.identity(),
            sources.draining(),
            sources.read(),
            self.history,
            self.recent.faults(),
            sources.last_reload(),
        )

    def counters(self) -> Snapshot:
        """What all processes counted, and what came of the last reload."""
        found = self._sources.read()
        if (last := self._sources.last_reload()) is not None:
            problem, at = last
            found = {**found, RELOADED: {"": float(not problem)}, RELOADED_AT: {"": at}}
        return found

    def not_ready(self) -> list[str]:
        """Why the proxy is not ready for requests; none: it is."""
        sources = self._sources
        return readiness(
            sources.settings(),
            sources.identity(),
            sources.draining(),
            sources.read(),
            sources.wall(),
        )
