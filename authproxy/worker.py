"""Owns the life of a worker process: `python -m authproxy.worker`, started by the supervisor.

It gets its settings, certificates and listening sockets from the supervisor (workers/handover.py),
serves like a process of its own, reports what it counts once a second, and drains when it is told
to, at SIGTERM, or when the supervisor is gone.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogBeginner

from . import tap
from .certificates import CertificateError
from .config import ConfigError
from .deadlines import make_steady
from .loading import Loaded
from .operations_log import THRESHOLD, Counted, level_of, text_of
from .service import FrontDoor
from .settings import ListenAddress
from .transport.binding import ListenError
from .workers.channel import DESCRIPTOR, FIRST_SOCKET, Channel, adopt
from .workers.handover import Handover

REPORT = 1.0  # seconds between two reports

log = Logger()


class Worker:
    """One process that serves. `status` is what it exits with.

    For the front door it is also where access lines go (linefile.Lines).
    """

    failing = False

    def __init__(self, reactor: Any) -> None:
        self.status = 0
        self.lost = 0
        self._reactor = reactor
        self._door: FrontDoor | None = None
        self._sockets: dict[ListenAddress, socket.socket] = {}  # that nobody accepts on yet
        self._leaving = False
        self._finished = False
        self._reports = LoopingCall(self._report)
        self._reports.clock = reactor
        self._said = Counted(self._log)
        self._channel = Channel(self._heard, self._channel_closed)

    def run(self) -> None:
        """Serve until told to stop."""
        globalLogBeginner.beginLoggingTo([self._said], redirectStandardIO=False)
        with socket.socket(fileno=DESCRIPTOR) as channel:
            channel.setblocking(False)
            adopt(self._reactor, channel.fileno(), channel.family, self._channel)
        self._ignore_the_terminal()
        self._reactor.callWhenRunning(self._install_signals)
        self._reactor.run()

    def _ignore_the_terminal(self) -> None:
        # Its Ctrl-C reaches all processes; the supervisor, which held them back until now
        # (workers/process.py), says what is to be done.
        terminal = {signal.SIGINT, signal.SIGHUP}
        for number in terminal:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, terminal)

    def _install_signals(self) -> None:
        signal.signal(signal.SIGTERM, self._terminated)

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self.leave)

    def _heard(self, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "handover":
            self._begin(message)
        elif kind == "reload":
            self._channel.tell("reloaded", problem=self._reload(Handover.of_message(message)))
        elif kind == "drain":
            self.leave()
        elif kind == "abort" and self._door is not None:
            self._door.abort()

    def _begin(self, message: dict[str, Any]) -> None:
        try:
            self._serve(Handover.of_message(message))
        except (OSError, CertificateError, ConfigError, ListenError) as e:
            log.error("this machine: it cannot start: {reason}", reason=str(e))
            self.status = 1
        except Exception:
            log.failure("this machine: it cannot start")
            self.status = 1
        if self.status:
            self._leaving = True
            self._finish()

    def _serve(self, handover: Handover) -> None:
        settings = handover.settings()
        THRESHOLD.set(settings.log.level)
        addresses = [address for _, address in handover.listeners]
        self._sockets = {
            address: socket.socket(fileno=FIRST_SOCKET + n) for n, address in enumerate(addresses)
        }
        door = tap.make_service(settings, handover.identity, self._reactor, self._sockets, self)
        door.privilegedStartService()
        door.startService()
        self._door = door
        self._report()
        self._reports.start(REPORT, now=False)
        self._channel.tell("ready")

    def _reload(self, handover: Handover) -> str:
        """Go on with this. Returns why that cannot be, or ""."""
        if self._door is None or self._leaving:
            return ""
        known = [opened.address for opened in self._door.listeners.open]
        fresh = [address for _, address in handover.listeners if address not in known]
        descriptors, self._channel.descriptors = self._channel.descriptors, []
        try:
            self._sockets.clear()
            self._sockets |= {
                address: socket.socket(fileno=descriptor)
                for address, descriptor in zip(fresh, descriptors, strict=True)
            }
            self._door.reload(Loaded(handover.text, handover.settings(), handover.identity))
        except (OSError, CertificateError, ConfigError, ListenError) as e:
            return str(e)
        except Exception as e:
            log.failure("It cannot reload")
            return repr(e)
        return ""

    def _report(self) -> None:
        self._said.sweep()
        if self._door is not None:
            self._channel.tell("counters", snapshot=self._door.counters())

    # The end.

    def leave(self) -> None:
        """Drain and end."""
        if self._leaving:
            return
        self._leaving = True
        if self._door is None:
            self._finish()
            return
        self._channel.tell("leaving")
        self._door.stopService().addBoth(self._drained)

    def _drained(self, result: Any) -> None:
        self._report()
        self._finish()

    def _finish(self) -> None:
        """End, as soon as everything that was said is on its way."""
        self._finished = True
        if self._channel.transport is None:
            self._reactor.stop()
        else:
            self._channel.close()

    def _channel_closed(self) -> None:
        if self._finished:
            self._reactor.stop()
        else:
            self.leave()  # the supervisor is gone

    # What is said.

    def write(self, lines: Sequence[str]) -> None:
        """Lines for the one access log of all workers."""
        if self._channel.full:
            self.lost += len(lines)
        elif lines:
            self._channel.tell("lines", text="\n".join(lines))  # one text: JSON's cost is by piece

    def flush(self) -> None:
        """The channel sends by itself."""

    def close(self) -> None:
        """The channel is closed last."""

    def _log(self, event: Any) -> None:
        """Everything goes to the supervisor, which knows where the log is."""
        if THRESHOLD.passes(event):
            self._channel.tell("log", level=level_of(event).name, text=text_of(event))


def main() -> None:
    """What the supervisor starts."""
    from twisted.internet import reactor  # noqa: PLC0415  (importing installs one)

    make_steady(reactor)
    worker = Worker(reactor)
    worker.run()
    sys.exit(worker.status)


if __name__ == "__main__":
    main()
