"""Owns a file of lines that is only appended to: the access log's, on disk or on stdout.

It is opened anew when it was moved away (logrotate); what cannot be written is held for a while.
Knows nothing of what the lines say.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.logger import Logger

MOST_HELD = 1 << 22  # characters kept while the disk or the pipe takes none; then lines are lost
LOOK_AGAIN = 5.0  # seconds between two looks whether the file was moved away
LAST_WORDS = 1.0  # seconds that the reader of stdout has for what is left at the end
BUSY = 1.0  # seconds for which a reader of stdout may be behind before it is said

log = Logger()


class Lines(Protocol):
    """Where lines go: `lost` counts those that were given up, `failing` says that the last try
    failed, and that only `flush` tries again."""

    @property
    def lost(self) -> int: ...

    @property
    def failing(self) -> bool: ...

    def write(self, lines: Sequence[str]) -> None:
        """Take these lines, each without its LF."""

    def flush(self) -> None:
        """Try again what could not be written."""

    def close(self) -> None:
        """No more will come."""


class LineFile:
    """A log of text lines. `path` is a file, "-" for file descriptor 1, "" for none.

    `lost` counts lines that were given up, `failing` says that the last write failed. Raises
    OSError where the file cannot be opened at the start, and never after that.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.lost = 0
        self.failing = False
        self._path = path
        self._clock = clock
        self._held: list[str] = []
        self._size = 0
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        self._may_block = False
        self._look_at = 0.0
        self._failing_since = 0.0
        self._said = False
        self._torn = False  # the last octet written is no LF
        self._ready = select.poll()
        if path == "-":
            self._descriptor = os.dup(1)
            self._may_block = not stat.S_ISREG(os.fstat(1).st_mode)
            self._ready.register(self._descriptor, select.POLLOUT)
        elif path:
            self._open()

    def write(self, lines: Sequence[str]) -> None:
        """Write these lines (without their LF), or hold them while writing fails."""
        self._held += lines
        self._size += sum(map(len, lines))
        if not self.failing:
            self.flush()
        elif self._size > MOST_HELD:
            self._give_up()

    def flush(self) -> None:
        """Write what is held."""
        if self._path not in ("", "-") and self._clock() >= self._look_at:
            self._reopen_if_moved()
        if not self._held:
            return
        if self._may_block and not self._ready.poll(0):  # before 4 MiB are put together in vain
            self._failed(BlockingIOError(errno.EAGAIN, "its reader does not take more"))
            return
        data = memoryview(("\n".join(self._held) + "\n").encode("ascii", "backslashreplace"))
        try:
            while data:
                written = self._write(data)
                self._torn = data[written - 1] != ord("\n")
                data = data[written:]
        except OSError as e:
            self._held = str(data, "ascii").splitlines()
            self._size = len(data)
            self._failed(e)
            return
        if self.failing:
            self._works_again()
        self._held.clear()
        self._size = 0

    def _write(self, data: memoryview) -> int:
        """Write once. On stdout, which may be a pipe whose reader sleeps, only what surely fits:
        other processes share the descriptor, so it cannot be made non-blocking."""
        if not self._may_block:
            return os.write(self._descriptor, data)
        if not self._ready.poll(0):
            raise BlockingIOError(errno.EAGAIN, "its reader does not take more")
        return os.write(self._descriptor, data[: select.PIPE_BUF])

    def close(self) -> None:
        """Write what is held and close."""
        end = time.monotonic() + LAST_WORDS
        while self._path == "-" and self._held and time.monotonic() < end:
            self._ready.poll(LAST_WORDS * 1000)
            self.flush()
        self.lost += len(self._held)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._path = ""

    def _open(self) -> None:
        self._descriptor = os.open(
            self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640
        )
        status = os.fstat(self._descriptor)
        self._identity = (status.st_dev, status.st_ino)

    def _reopen_if_moved(self) -> None:
        self._look_at = self._clock() + LOOK_AGAIN
        try:
            status = os.stat(self._path)
            if self._identity == (status.st_dev, status.st_ino):
                return
        except FileNotFoundError:
            pass
        except OSError as e:
            self._failed(e)
            return
        old = self._descriptor
        try:
            self._open()
        except OSError as e:
            self._failed(e)
        else:
            os.close(old)

    def _failed(self, reason: OSError) -> None:
        now = self._clock()
        if not self.failing:
            self.failing = True
            self._failing_since = now
            self._said = False
        # A pipe that is full for a moment is no news.
        patience = BUSY if isinstance(reason, BlockingIOError) else 0.0
        if not self._said and now - self._failing_since >= patience:
            self._said = True
            log.error(
                "this machine: The access log {path} cannot be written: {reason}. Make room,"
                " correct its permissions, or restart its reader. Lines are held, and lost when"
                " they are too many.",
                path=self._name,
                reason=reason.strerror,
            )
        if self._size > MOST_HELD:
            self._give_up()

    def _works_again(self) -> None:
        self.failing = False
        if self._said:
            log.info(
                "The access log {path} is written again; {lost} lines were lost since the start.",
                path=self._name,
                lost=self.lost,
            )

    @property
    def _name(self) -> str:
        return "(stdout)" if self._path == "-" else self._path

    def _give_up(self) -> None:
        self.lost += len(self._held)
        self._held = [""] if self._torn else []  # what comes next begins a line
        self._size = 0
