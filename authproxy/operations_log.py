"""Owns how the log of operations looks, and which events get into it.

Twisted's logger carries the events; this is the one observer of a process. In a journal a line has
a priority (sd-daemon(3)) and no time, elsewhere a time and the word of its level. What Twisted says
of its own doings at level info is for `debug`. A traceback that comes again and again is counted.

It must not know what is said; saying.py has the faults that others cause, with their side.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TextIO

from twisted.logger import ILogObserver, LogLevel, eventAsText, formatTime
from zope.interface import implementer

from .outlet import Outlet

LEVELS = ("debug", "info", "warn", "error")
AGAIN = 10.0  # seconds within which the same traceback is only counted
MOST_FAULTS = 100  # that are remembered
_PRIORITIES = {
    LogLevel.debug: "<7>",
    LogLevel.info: "<6>",
    LogLevel.warn: "<4>",
    LogLevel.error: "<3>",
    LogLevel.critical: "<2>",
}
_LOST = (
    "this machine: {lost} messages of this log are lost: its disk was full, or its reader took no"
    " more."
)
_INDENT = "    "  # of the further lines of a message, in a terminal
_REPORT = (
    "this machine: a fault of authproxy itself. What it was doing has ended, everything else goes"
    " on. Please report it, with these lines."
)


class Threshold:
    """The least level that is written: `[log] level`. A reload sets it anew."""

    def __init__(self, level: str = "info") -> None:
        self._least = LogLevel.lookupByName(level)

    def set(self, level: str) -> None:
        """One of LEVELS."""
        self._least = LogLevel.lookupByName(level)

    def passes(self, event: Mapping[str, Any]) -> bool:
        """Whether this event is written."""
        level = level_of(event)
        if level == LogLevel.info and not _is_ours(event):
            level = LogLevel.debug  # ports and factories that come and go
        passes: bool = level >= self._least
        return passes


# Of this process, as Twisted's publisher is: whoever applies settings sets it.
THRESHOLD = Threshold()


def level_of(event: Mapping[str, Any]) -> Any:
    """The LogLevel of an event."""
    return event.get("log_level") or LogLevel.info


def _is_ours(event: Mapping[str, Any]) -> bool:
    return str(event.get("log_namespace", "")).startswith("authproxy")


def text_of(event: Mapping[str, Any]) -> str:
    """What an event says, its traceback included; lines without a LF at the end."""
    text = eventAsText(dict(event), includeTimestamp=False, includeSystem=False)
    if not _is_ours(event):
        text = f"{event.get('log_namespace', '-')}: {text}"
    elif event.get("log_failure") is not None:
        text = f"{_REPORT}\n{text}"
    # Nothing of a message may steer a terminal, whoever wrote it.
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text).rstrip()


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether what is written there goes to the journal: $JOURNAL_STREAM in systemd.exec(5)."""
    device, colon, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    if not (colon and device.isdecimal() and inode.isdecimal()):
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # it has no descriptor, or is closed
        return False
    return (status.st_dev, status.st_ino) == (int(device), int(inode))


class Observer(Protocol):
    """Where events go on."""

    def __call__(self, event: Mapping[str, Any]) -> None: ...


@implementer(ILogObserver)
class Counted:
    """Passes events on, but one traceback that was there in the last AGAIN seconds is counted.

    `sweep`, now and then, says how often one came that does not come any more.
    """

    def __init__(self, further: Observer, now: Callable[[], float] = time.monotonic) -> None:
        self._further = further
        self._now = now
        self._known: dict[object, tuple[float, int, Mapping[str, Any]]] = {}

    def __call__(self, event: Mapping[str, Any]) -> None:
        """An event."""
        if event.get("log_failure") is None:
            self._further(event)
            return
        self.sweep()
        kind: object = _place(event)
        known = self._known.get(kind)
        if known is None and len(self._known) >= MOST_FAULTS:
            kind = None  # so many different ones are one
            known = self._known.get(kind)
        if known is not None:
            until, repeated, _ = known
            self._known[kind] = (until, repeated + 1, event)
            return
        self._known[kind] = (self._now() + AGAIN, 0, event)
        self._further(event)

    def sweep(self) -> None:
        """Say what was only counted, where its time is over."""
        now = self._now()
        for kind, (until, repeated, event) in list(self._known.items()):
            if until > now:
                continue
            del self._known[kind]
            if repeated:
                self._further(
                    dict(
                        event,
                        log_format="({repeated} more like the following, the last of them) {first}",
                        repeated=repeated,
                        first=eventAsText(
                            dict(event),
                            includeTraceback=False,
                            includeTimestamp=False,
                            includeSystem=False,
                        ),
                    )
                )


def _place(event: Mapping[str, Any]) -> tuple[object, ...]:
    """Where a failure arose; its words may differ from one time to the next."""
    failure = event["log_failure"]
    frame = failure.frames[-1] if failure.frames else ()
    return (event.get("log_format"), failure.type, *frame[:3])


@implementer(ILogObserver)
class OperationsLog:
    """Writes events as lines.

    `journal` chooses the form; no clock is asked, the events have their time.
    """

    def __init__(
        self, outlet: Outlet, *, journal: bool = False, threshold: Threshold = THRESHOLD
    ) -> None:
        self._outlet = outlet
        self._journal = journal
        self._threshold = threshold

    def __call__(self, event: Mapping[str, Any]) -> None:
        """An event."""
        if not self._threshold.passes(event):
            return
        text = text_of(event)
        if not text:
            return
        outlet = self._outlet
        outlet.flush()
        if outlet.lost and not outlet.behind:
            lost, outlet.lost = outlet.lost, 0
            outlet.write(self._lines(LogLevel.error, event, _LOST.format(lost=lost)))
        outlet.write(self._lines(level_of(event), event, text))

    def _lines(self, level: Any, event: Mapping[str, Any], text: str) -> str:
        if self._journal:
            mark = _PRIORITIES[level]
            return "".join(f"{mark}{line}\n" for line in text.split("\n"))
        body = text.replace("\n", f"\n{_INDENT}")
        return f"{formatTime(event.get('log_time'))} {level.name} {body}\n"


class Foreground(Counted):
    """What a process in the foreground logs to: this stream's descriptor, if it has one."""

    def __init__(self, stream: TextIO | None, environ: Mapping[str, str]) -> None:
        if stream is None:
            self._outlet = Outlet(os.open(os.devnull, os.O_WRONLY))
            journal = False
        else:
            self._outlet = Outlet(stream.fileno())
            journal = is_journal(stream, environ)
        super().__init__(OperationsLog(self._outlet, journal=journal))
        atexit.register(self._outlet.close)

    def sweep(self) -> None:
        """And write what was held."""
        super().sweep()
        self._outlet.flush()
