"""Owns one worker process as the supervisor sees it: starting it, what it says, its end.

What it says comes through its channel: access lines too, so that there is one log. Its standard
error is for what Python says of a process that cannot even do that.
"""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from ..counters import Snapshot
from .channel import DESCRIPTOR, FIRST_SOCKET, Channel, adopt

# Said to a service manager by the supervisor alone, and sockets of systemd are handed over by us.
_NOT_INHERITED = frozenset(
    {"LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"}
)

# Lines of standard error from one worker in a WINDOW; a fault that Python prints (of a callback,
# say) may come with every connection.
MOST_LINES = 100
WINDOW = 10.0  # seconds

log = Logger()


class Owner(Protocol):
    """Who is told of a worker."""

    def worker_ready(self, worker: Worker) -> None:
        """It serves."""

    def worker_leaving(self, worker: Worker) -> None:
        """It drains, and accepts no more."""

    def worker_ended(self, worker: Worker, reason: str) -> None:
        """The process is gone."""

    def access_lines(self, worker: Worker, lines: list[str]) -> None:
        """Lines of the access log, without their LF."""


class Worker(ProcessProtocol):
    """A worker process.

    `number` is its place, from 1; `snapshot` what it counted last; `silent` how many ticks of the
    supervisor it has said nothing. `ready` is as it said.
    """

    def __init__(self, number: int, started: float, owner: Owner) -> None:
        self.number = number
        self.started = started
        self.snapshot: Snapshot = {}
        self.silent = 0
        self.ready = False
        self.killed_for = ""
        self._owner = owner
        self._channel = Channel(self._heard, self._channel_closed)
        self._closed = False
        self._had_pid = 0
        self._reloads: list[Deferred[str]] = []
        self._words = ""
        self._clock: Callable[[], float] = lambda: started
        self._window = started
        self._lines = 0

    def __str__(self) -> str:
        pid = self.pid or self._had_pid  # the kernel's log knows it by that
        return f"Worker {self.number} (pid {pid})" if pid else f"Worker {self.number}"

    @property
    def behind(self) -> bool:
        """Whether it was told to reload, and has not done so yet."""
        return bool(self._reloads)

    @property
    def pid(self) -> int:
        """Its process id, 0 where there is none any more."""
        return getattr(self.transport, "pid", None) or 0

    def start(self, reactor: Any, sockets: Sequence[socket.socket]) -> None:
        """Start it with these listening sockets. Raises OSError; then nobody hears of it again."""
        self._clock = reactor.seconds
        ours, theirs = socket.socketpair()
        with ours, theirs, open(os.devnull, "r+b", buffering=0) as nothing:
            descriptors: dict[int, Any] = {
                0: nothing.fileno(), 1: nothing.fileno(), 2: "r", DESCRIPTOR: theirs.fileno(),
            }  # fmt: skip
            descriptors |= {FIRST_SOCKET + n: skt.fileno() for n, skt in enumerate(sockets)}
            with _without_signals():
                reactor.spawnProcess(
                    self,
                    sys.executable,
                    # -P: the working directory is nobody's to put modules into.
                    [sys.executable, "-P", "-m", "authproxy.worker"],
                    env=_environment(os.environ),
                    childFDs=descriptors,
                )
            self._had_pid = self.pid
            adopt(reactor, ours.fileno(), socket.AF_UNIX, self._channel)

    def tell(self, kind: str, **parts: Any) -> None:
        """Say something to it."""
        self._channel.tell(kind, **parts)

    def reload(
        self, handover: Mapping[str, Any], sockets: Sequence[socket.socket]
    ) -> Deferred[str]:
        """Let it go on with this, and with the sockets that it does not have yet. Fires with why it
        could not, or "": also when it is gone."""
        if self._closed:  # its end is not heard of yet
            return succeed("")
        self._channel.send_descriptors([skt.fileno() for skt in sockets])
        self.tell("reload", **handover)
        self._reloads.append(answer := Deferred[str]())
        return answer

    def kill(self, why: str) -> None:
        """End it now."""
        self.killed_for = why
        with suppress(ProcessExitedAlready):
            assert self.transport is not None
            self.transport.signalProcess(signal.SIGKILL)

    def _heard(self, message: dict[str, Any]) -> None:
        self.silent = 0
        kind = message["kind"]
        if kind == "counters":
            self.snapshot = message["snapshot"]
        elif kind == "lines":
            self._owner.access_lines(self, message["text"].split("\n"))
        elif kind == "log":
            level = LogLevel.lookupByName(message["level"])
            log.emit(level, "[worker {number}] {text}", number=self.number, text=message["text"])
        elif kind == "ready":
            self.ready = True
            self._owner.worker_ready(self)
        elif kind == "reloaded":
            self._reloads.pop(0).callback(message["problem"])
        elif kind == "leaving":
            self._owner.worker_leaving(self)

    def errReceived(self, data: bytes) -> None:
        """What is not said through the channel."""
        if self._clock() - self._window >= WINDOW:
            self._sum_up()
        for line in data.decode("utf-8", "replace").splitlines():
            self._lines += 1
            if self._lines <= MOST_LINES:
                log.error("[worker {number}] {text}", number=self.number, text=line)

    def _sum_up(self) -> None:
        left_out = self._lines - MOST_LINES
        if left_out > 0:
            log.error(
                "[worker {number}] ({left_out} more lines of its standard error)",
                number=self.number,
                left_out=left_out,
            )
        self._window = self._clock()
        self._lines = 0

    def processEnded(self, reason: Failure) -> None:
        """It is gone; what it said last may still be in the channel."""
        self._sum_up()
        value: Any = reason.value
        if self.killed_for:
            self._words = f"was killed: {self.killed_for}"
        elif getattr(value, "signal", None) is not None:
            self._words = f"was ended by {_name_of(value.signal)}"
        else:
            self._words = f"ended with status {value.exitCode}"
        self._end()

    def _channel_closed(self) -> None:
        self._closed = True
        reloads, self._reloads = self._reloads, []
        for answer in reloads:
            answer.callback("")
        self._end()

    def _end(self) -> None:
        if self._words and self._closed:
            self._owner.worker_ended(self, self._words)


@contextmanager
def _without_signals() -> Iterator[None]:
    """A process started in here begins with what a terminal sends its whole group held back, until
    it ignores it: Python's own answer is a traceback, or an end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """A worker's environment: ours, and where to find this package if it is not installed."""
    ours = {name: value for name, value in environ.items() if name not in _NOT_INHERITED}
    home = pathlib.Path(__file__).resolve().parents[2]
    if home.name not in ("site-packages", "dist-packages"):
        ours["PYTHONPATH"] = os.pathsep.join(filter(None, (str(home), ours.get("PYTHONPATH"))))
    return ours
