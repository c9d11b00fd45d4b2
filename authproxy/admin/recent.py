"""Owns the last warnings and errors of the log, for the status page.

An observer of the process's log. Those of workers come through it too (workers/process.py). What is
said again is counted: texts that differ only in a request's id, in the worker that says it, or in
how often saying.py had heard it before are the same.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from attrs import evolve, frozen
from twisted.logger import LogEvent, LogLevel, formatEvent

MOST = 50
MOST_TEXT = 1200  # characters of one: clients have a part in some
_WORKER = re.compile(r"\[worker (\d+)\] ")
_BEFORE = re.compile(r"\((\d+) more like this before\) ")
_SUMMED_UP = re.compile(r"\((\d+) more like this in [^ ]+ s, the last:\) ")
_WITHIN = re.compile(r"\n(?!    )")
_REQUEST = re.compile(r"\b[0-9a-f]{16}\b")


@frozen
class Fault:
    """What was said, `count` times from `first` to `last` (seconds since the epoch).

    `level` is "warn", "error" or "critical"; `worker` the number of the worker that said it last, 0
    for the process itself. `text` is of printable characters; lines after its first are settings to
    paste.
    """

    text: str
    level: str
    first: float
    last: float
    count: int = 1
    worker: int = 0


class Recent:
    """The last of them. `now` gives seconds since the epoch. An ILogObserver."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._known: OrderedDict[str, Fault] = OrderedDict()

    def __call__(self, event: LogEvent) -> None:
        """Remember it, if it is a warning or worse."""
        level = event.get("log_level")
        if level is None or level < LogLevel.warn:
            return
        text, worker, times = _parts(event)
        now = self._now()
        kind = _REQUEST.sub("", text)
        before = self._known.pop(kind, None)
        if before is None:
            fault = Fault(text, level.name, now, now, times, worker)
        else:
            fault = evolve(
                before, text=text, level=level.name, last=now, count=before.count + times,
                worker=worker,
            )  # fmt: skip
        self._known[kind] = fault
        if len(self._known) > MOST:
            self._known.popitem(last=False)

    def faults(self) -> list[Fault]:
        """The youngest first."""
        return list(reversed(self._known.values()))


def _parts(event: LogEvent) -> tuple[str, int, int]:
    """(text, worker, times) of an event."""
    text = formatEvent(event)
    failure: Any = event.get("log_failure")
    if failure is not None:
        text = f"{text}: {failure.type.__name__}: {failure.value}"
    worker, times = 0, 1
    said = _WORKER.match(text)
    if said is not None:
        worker, text = int(said[1]), text[said.end() :]
    said = _BEFORE.match(text)
    if said is not None:
        times, text = times + int(said[1]), text[said.end() :]
    said = _SUMMED_UP.match(text)
    if said is not None:
        times, text = int(said[1]), text[said.end() :]
    return _printable(text), worker, times


def _printable(text: str) -> str:
    """What a client sent may be in it. Indented lines stay lines, see upstream_tls.py."""
    text = _WITHIN.sub(" ", text.strip())
    text = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "\u2026"
