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
from .counters import CERTIFICATES, Snapshot, snapshot
from .deadlines import Deadlines
from .gateway import Gateway
from .identity import Identity
from .listeners import Listeners
from .loading import Loaded
from .notify import Notifier, status
from .operations_log import THRESHOLD
from .settings import ListenAddress, Settings
from .transport.dispatch import Dispatcher
from .transport.opening import Listener

FLUSH = 1.0  # seconds that an access line waits at most
DRAIN_TICK = 0.05  # seconds between two looks at what is left
# Seconds over which relays close: outposts must not all come back at once. In a restart by socket
# activation timeouts.linger follows, for those that do not close, and a start of 2 to 3 s: who
# connects meanwhile is to wait for less than 12.
RELAY_SPREAD = 5.0

log = Logger()


@dataclass(frozen=True)
class Parts:
    """What a FrontDoor runs. `http` and `https` are there whether anything listens for them or not.

    `adopt` lets all of it go on with other settings; it raises CertificateError or OSError, and
    then nothing has changed.
    """

    gateway: Gateway
    deadlines: Deadlines
    access: AccessLog
    dispatcher: Dispatcher | None
    http: Listener
    https: Listener
    listen: Callable[[ListenAddress, Listener], Any]
    adopt: Callable[[Settings, Identity], None]


class FrontDoor(MultiService):
    """The proxy.

    Once it serves it makes its `announcement`, if it has one, and when the certificates of its
    `identity` expire is among its counters: a worker has neither. `listeners` are the ports that
    listen.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        parts: Parts,
        notifier: Notifier,
        announcement: Announcement | None = None,
        identity: Identity | None = None,
    ) -> None:
        super().__init__()
        self.setName("authproxy")
        self.parts = parts
        self.listeners: Listeners[Any] = Listeners(
            lambda scheme, address: parts.listen(address, self._listener(scheme)),
            lambda port: int(port.getHost().port),
            lambda port: port.stopListening(),
            self._move,
        )
        self._reactor = reactor
        self._notifier = notifier
        self._announcement = announcement
        self._identity = identity
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
        self.listeners.open_new(parts.gateway.settings.listen)
        self._commit()

    def _commit(self) -> None:
        self.listeners.commit()
        self.parts.gateway.https_port = self._public_port()

    def _listener(self, scheme: str) -> Listener:
        return self.parts.https if scheme == "https" else self.parts.http

    def _move(self, scheme: str, port: Any) -> None:
        port.factory = self._listener(scheme)

    def _public_port(self) -> int:
        """The port in redirects; 0 where https:// needs none."""
        port = self.parts.gateway.settings.listen.public_https_port
        if not port:
            secure = [
                opened.address.port
                for opened in self.listeners.open
                if opened.scheme == "https" and opened.address.kind == "tcp"
            ]
            port = secure[0] if secure else 443
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
                (opened.scheme, opened.address) for opened in self.listeners.open
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
        found = snapshot(parts.gateway, parts.access)
        if self._identity is not None:
            found[CERTIFICATES] = self._identity.expiries(parts.gateway.settings)
        return found

    @property
    def draining(self) -> bool:
        """Whether it stops."""
        return self._drained is not None

    def _alive(self) -> None:
        self._notifier.send("WATCHDOG=1", status(self.counters()))

    # While it runs.

    def reload(self, loaded: Loaded) -> None:
        """Go on with other settings, for requests and connections that begin from now on.

        Nothing that is open is cut. Raises ListenError, CertificateError or OSError; then nothing
        has changed.
        """
        self.listeners.open_new(loaded.settings.listen)
        try:
            self.parts.adopt(loaded.settings, loaded.identity)
        except Exception:
            self.listeners.give_up()
            raise
        THRESHOLD.set(loaded.settings.log.level)
        for opened in self.listeners.leaving:
            opened.what.accept_all()
        self._commit()
        if self._identity is not None:
            self._identity = loaded.identity

    # Drain.

    def stopService(self) -> Deferred[None]:
        """Finish what runs and stop. Fires when nothing is left, or after timeouts.drain."""
        if self._drained is not None:
            return self._drained
        parts = self.parts
        self._drained = Deferred()
        self._notifier.send("STOPPING=1", "STATUS=draining")
        super().stopService()
        for opened in self.listeners.open:
            if opened.address.kind != "systemd":  # who waits there waits for the next start
                opened.what.accept_all()
        self.listeners.close()
        parts.gateway.draining = True
        log.info(
            "Draining: {requests} requests and {relays} WebSockets are open.",
            requests=parts.gateway.exchanges - len(parts.gateway.relays),
            relays=len(parts.gateway.relays),
        )
        timeouts = parts.gateway.timeouts
        self._openings_until = parts.deadlines.now() + timeouts.linger
        self._drain_until = parts.deadlines.now() + timeouts.drain
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
        return self.parts.https.admission.open > 0

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
            log.warn(
                "this machine: Not drained in time: {left} connections are cut. A longer"
                " timeouts.drain gives them more.",
                left=left,
            )
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
        parts.gateway.sayings.flush()
        for site in parts.gateway.sites:
            site.pool.close()

        def finish() -> None:
            if parts.dispatcher is not None:
                parts.dispatcher.close()
            parts.access.close()
            assert self._drained is not None
            self._drained.callback(None)

        # One turn for what was closed just now: resets and close_notify go out.
        self._reactor.callLater(0.01, finish)
