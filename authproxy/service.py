"""Owns the running proxy: listeners, pools and timers as one Twisted service, from start to drain.

    privilegedStartService   sockets are bound, before twistd --uid gives root away
    startService             timers run; systemd hears READY
    stopService              drain: no new connections, requests finish, relays close, then the end

What it is made of is put together in tap.py.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from .accesslog import AccessLog
from .announcement import Announcement
from .counters import Snapshot, snapshot
from .deadlines import Deadlines
from .gateway import Gateway
from .notify import Notifier, status
from .settings import ListenAddress, Settings
from .transport.binding import ListenError, or_unprivileged, wanted
from .transport.dispatch import Dispatcher
from .transport.opening import Listener
from .upstream.pool import Pool

FLUSH = 1.0  # seconds that an access line waits at most
DRAIN_TICK = 0.05  # seconds between two looks at what is left
# Seconds over which relays close: outposts must not all come back at once, and a proxy with only
# WebSockets is to be gone within 10.
RELAY_SPREAD = 7.0  # and timeouts.linger for those that do not close

log = Logger()


@dataclass(frozen=True)
class Parts:
    """What a FrontDoor runs. `http` and `https` are None where nothing listens for them."""

    settings: Settings
    gateway: Gateway
    pools: tuple[Pool, ...]
    deadlines: Deadlines
    access: AccessLog
    dispatcher: Dispatcher | None
    http: Listener | None
    https: Listener | None
    listen: Callable[[ListenAddress, Listener], Any]


class FrontDoor(MultiService):
    """The proxy.

    Once it serves it makes its `announcement`, if it has one (a worker has none). `ports` are the
    listening ports: (address with the port that was bound, port).
    """

    def __init__(
        self,
        reactor: IReactorTime,
        parts: Parts,
        notifier: Notifier,
        announcement: Announcement | None = None,
    ) -> None:
        super().__init__()
        self.setName("authproxy")
        self.parts = parts
        self.ports: list[tuple[ListenAddress, Any]] = []
        self._reactor = reactor
        self._notifier = notifier
        self._announcement = announcement
        self._timers: list[LoopingCall] = []
        self._drained: Deferred[None] | None = None
        self._drain_until = 0.0
        self._relays_until = 0.0
        self._openings_until = 0.0

    # Start.

    def privilegedStartService(self) -> None:
        """Bind the listening sockets. Raises ListenError, all or none."""
        super().privilegedStartService()
        parts = self.parts
        if parts.dispatcher is not None:
            parts.dispatcher.attach(self._reactor)  # type: ignore[arg-type]
        try:
            for scheme, address, fixed in wanted(parts.settings.listen):
                listener = parts.https if scheme == "https" else parts.http
                if listener is not None:
                    self._listen(address, listener, fixed)
        except ListenError:
            for _, port in self.ports:
                port.stopListening()
            raise
        parts.gateway.https_port = self._public_port()

    def _listen(self, address: ListenAddress, listener: Listener, fixed: bool) -> None:
        address, port = or_unprivileged(
            lambda address: self.parts.listen(address, listener), address, fixed
        )
        if address.kind == "tcp" and not address.port:  # any free one: say which
            address = ListenAddress("tcp", address.host, port.getHost().port)
        self.ports.append((address, port))

    def _public_port(self) -> int:
        """The port in redirects; 0 where https:// needs none."""
        listen = self.parts.settings.listen
        port = listen.public_https_port
        if not port:
            secure = [p for a, p in self.ports if a.kind == "tcp" and p.factory is self.parts.https]
            port = secure[0].getHost().port if secure else 443
        return 0 if port == 443 else port

    def startService(self) -> None:
        """Timers run, the parts say what they are, systemd hears READY."""
        super().startService()
        parts = self.parts
        parts.deadlines.start()
        self._every(FLUSH, parts.access.flush)
        if self._notifier.watchdog_interval:
            self._every(self._notifier.watchdog_interval / 2, self._alive)
        if self._announcement is not None:
            self._announcement.make(
                ("https" if port.factory is parts.https else "http", address)
                for address, port in self.ports
            )
        # Everything made until now lives as long as the process: the collector need not walk it.
        gc.collect()
        gc.freeze()
        self._notifier.send("READY=1", f"MAINPID={os.getpid()}", "STATUS=serving")

    def _every(self, seconds: float, what: Callable[[], Any]) -> None:
        timer = LoopingCall(what)
        timer.clock = self._reactor
        timer.start(seconds, now=False)
        self._timers.append(timer)

    def counters(self) -> Snapshot:
        """What was counted until now."""
        parts = self.parts
        listeners = [listener for listener in (parts.http, parts.https) if listener is not None]
        return snapshot(parts.gateway, parts.pools, listeners, parts.access)

    def _alive(self) -> None:
        self._notifier.send("WATCHDOG=1", status(self.counters()))

    # Drain.

    def stopService(self) -> Deferred[None]:
        """Finish what runs and stop. Fires when nothing is left, or after timeouts.drain."""
        if self._drained is not None:
            return self._drained
        parts = self.parts
        self._drained = Deferred()
        self._notifier.send("STOPPING=1", "STATUS=draining")
        super().stopService()
        for _, port in self.ports:
            port.stopListening()
        parts.gateway.draining = True
        log.info(
            "Draining: {requests} requests and {relays} WebSockets are open.",
            requests=parts.gateway.exchanges - len(parts.gateway.relays),
            relays=len(parts.gateway.relays),
        )
        self._openings_until = parts.deadlines.now() + parts.settings.timeouts.linger
        self._drain_until = parts.deadlines.now() + parts.settings.timeouts.drain
        for connection in list(parts.gateway.connections):
            connection.drain()
        self._every(DRAIN_TICK, self._drain_on)
        return self._drained

    def abort(self) -> None:
        """Stop now: the second SIGTERM."""
        self._drain_until = 0.0

    def _drain_on(self) -> None:
        gateway = self.parts.gateway
        if self.parts.deadlines.now() >= self._drain_until:
            self._abort_all()
        elif gateway.connections:
            if gateway.exchanges <= len(gateway.relays):
                self._close_some_relays()
            return
        elif gateway.relays:
            self._close_some_relays()
            return
        elif self._opening() and self.parts.deadlines.now() < self._openings_until:
            return  # in their handshakes: they get timeouts.linger for a request
        self._end()

    def _opening(self) -> bool:
        """Whether connections are accepted that are not HTTP yet."""
        listener = self.parts.https or self.parts.http
        return listener is not None and listener.admission.open > 0

    def _close_some_relays(self) -> None:
        now = self.parts.deadlines.now()
        if not self._relays_until:
            self._relays_until = min(now + RELAY_SPREAD, self._drain_until)
        relays = [relay for relay in self.parts.gateway.relays if not relay.closing]
        left = max(self._relays_until - now, DRAIN_TICK)
        for relay in relays[: ceil(len(relays) * DRAIN_TICK / left)]:
            relay.close()

    def _abort_all(self) -> None:
        gateway = self.parts.gateway
        left = len(gateway.connections) + len(gateway.relays)
        if left:
            log.warn("Not drained in time: {left} connections are cut.", left=left)
        for connection in list(gateway.connections):
            connection.transport.abortConnection()
        for relay in list(gateway.relays):
            relay.downstream.transport.abortConnection()
            relay.upstream.transport.abortConnection()

    def _end(self) -> None:
        parts = self.parts
        for timer in self._timers:
            timer.stop()
        parts.deadlines.stop()
        for pool in parts.pools:
            pool.close()

        def finish() -> None:
            if parts.dispatcher is not None:
                parts.dispatcher.close()
            parts.access.close()
            assert self._drained is not None
            self._drained.callback(None)

        # One turn for what was closed just now: resets and close_notify go out.
        self._reactor.callLater(0.01, finish)
