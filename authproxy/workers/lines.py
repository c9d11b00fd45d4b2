"""Owns the one access log of all workers: whose lines go where while a reload changes it."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall

from ..linefile import LineFile

LINES_AGAIN = 0.05  # seconds until lines that stdout did not take are tried again


class AccessLines:
    """What the workers send goes to `path` (see LineFile, which says what it raises)."""

    def __init__(self, reactor: Any, path: str) -> None:
        self._reactor = reactor
        self._path = path
        # Opened now: a file may be one that only root may write, until twistd --uid.
        self._file = self._file_before = LineFile(path)
        self._again: IDelayedCall | None = None  # when what stdout did not take is tried again

    @property
    def lost(self) -> int:
        """How many lines could not be written."""
        return self._file.lost

    def write(self, lines: list[str], behind: bool) -> None:
        """Take these lines of a worker. `behind`: it does not go by the last reload yet."""
        (self._file_before if behind else self._file).write(lines)
        self._write_on()

    def flush(self) -> None:
        """Try again what could not be written."""
        self._file.flush()

    def _write_on(self) -> None:
        # A pipe that is full is read in a moment. A disk that is full is not: what flushes us every
        # second is enough.
        if self._file.failing and self._again is None and self._path == "-":
            self._again = self._reactor.callLater(LINES_AGAIN, self._write_again)

    def _write_again(self) -> None:
        self._again = None
        self._file.flush()
        self._write_on()

    def change(self, path: str) -> None:
        """Go on in this file; what was served before is in the other. Raises OSError: then nothing
        has changed."""
        if path != self._path:
            self._file = LineFile(path)
            self._path = path

    def changed(self) -> None:
        """No worker is behind any more."""
        before, self._file_before = self._file_before, self._file
        if before is not self._file:
            before.close()
            self._file.lost += before.lost

    def close(self) -> None:
        """No more will come."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._file.close()
