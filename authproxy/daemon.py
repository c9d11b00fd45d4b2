"""Owns what matters only under twistd: where operations are logged, signals, a start that fails."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, Logger

from .operations_log import AGAIN, Counted, Foreground
from .reloads import Reloads
from .transport.binding import ListenError

log = Logger()


class Daemon(Service):
    """The front door (or the supervisor of several) as twistd runs it.

    `admin` is the admin listener, which is there from before the start to after the end.
    `foreground` says that there is a terminal or a journal: operations go to stderr then, unless
    the command line asked for another log, because stdout is the access log's.
    """

    def __init__(
        self,
        door: Any,
        admin: Service,
        reloads: Reloads,
        reactor: Any,
        *,
        foreground: bool,
        own_log: bool,
    ) -> None:
        self._door = door
        self._admin = admin
        self._reloads = reloads
        self._reactor = reactor
        self._foreground = foreground
        self._own_log = own_log
        self._log: Counted | None = None
        self._sweep: LoopingCall | None = None

    def setServiceParent(self, parent: Any) -> None:
        """Become part of twistd's application, and choose its log."""
        super().setServiceParent(parent)
        if self._foreground and not self._own_log:
            self._log = Foreground(sys.stderr, os.environ)
            parent.setComponent(ILogObserver, self._log)

    def privilegedStartService(self) -> None:
        """Bind. A failure is one line; SystemExit where twistd's parent does not wait for us."""
        try:
            self._admin.privilegedStartService()
            self._door.privilegedStartService()
        except ListenError as e:
            if self._foreground:
                log.error("this machine: {reason}", reason=str(e))
                raise SystemExit(1) from None
            raise CannotListenError(e.host, e.port, e) from None

    def startService(self) -> None:
        """Serve."""
        super().startService()
        # At once: what it does by default is to end the process, and READY is said in here.
        signal.signal(signal.SIGHUP, self._hang_up)
        self._admin.startService()  # first: it remembers what goes wrong
        self._door.startService()
        if self._log is not None:
            self._sweep = LoopingCall(self._log.sweep)
            self._sweep.clock = self._reactor
            self._sweep.start(AGAIN, now=False)
        # The reactor installs its own when it begins to run: ours come after.
        self._reactor.callWhenRunning(self._install_signals)

    def stopService(self) -> Any:
        """Drain. The admin listener stays to the end: load balancers ask it whether we drain."""
        super().stopService()
        if self._sweep is not None and self._sweep.running:
            self._sweep.stop()
        drained: Deferred[None] = self._door.stopService()
        return drained.addBoth(lambda _: self._admin.stopService())

    def _install_signals(self) -> None:
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.running:
            self._reactor.callFromThread(self._reactor.stop)
        else:
            self._reactor.callFromThread(self._door.abort)

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._reloads.reload)
