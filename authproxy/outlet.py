"""Owns writing text to a descriptor that may be a pipe or a terminal, without ever waiting for it.

Whoever reads standard error may be gone, asleep (a pager, Ctrl-S, a log collector that hangs) or
have a full disk: what does not fit is held for a while, in order, and then lost. Knows nothing of
what the text says.
"""

from __future__ import annotations

import os
import select
import stat
import time
from collections import deque

MOST_HELD = 1 << 18  # octets kept while nobody takes any
LAST_WORDS = 1.0  # seconds that the reader has for what is left at the end


class Outlet:
    """Texts to a file descriptor. `lost` counts those that were given up, until it is set to 0."""

    def __init__(self, descriptor: int) -> None:
        self.lost = 0
        self._descriptor = descriptor
        self._held: deque[bytes] = deque()
        self._size = 0
        self._may_block = not stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._own = _opened_anew(descriptor) if self._may_block else None
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLOUT)

    @property
    def behind(self) -> bool:
        """Whether something is held."""
        return bool(self._held)

    def write(self, text: str) -> None:
        """Write this, or hold it."""
        data = text.encode("utf-8", "backslashreplace")
        if self._size + len(data) > MOST_HELD:
            self.lost += 1
            return
        self._held.append(data)
        self._size += len(data)
        self.flush()

    def flush(self) -> None:
        """Write what is held, as far as it is taken."""
        try:
            while self._held:
                written = self._write(self._held[0])
                self._size -= written
                rest = self._held.popleft()[written:]
                if rest:  # what comes next begins after it
                    self._held.appendleft(rest)
        except OSError:
            return  # it is held; there is no other place to say so

    def _write(self, data: bytes) -> int:
        """Write once; of what may block, only what fits by the word of poll."""
        if not self._may_block:
            return os.write(self._descriptor, data)
        if self._own is not None:
            return os.write(self._own, data[: select.PIPE_BUF])
        if not self._ready.poll(0):
            raise BlockingIOError
        return os.write(self._descriptor, data[: select.PIPE_BUF])

    def close(self) -> None:
        """No more will come: a last try."""
        end = time.monotonic() + LAST_WORDS
        self.flush()
        while self._held and self._ready.poll(0) == [] and time.monotonic() < end:
            self._ready.poll(LAST_WORDS * 1000)
            self.flush()
        if self._own is not None:
            os.close(self._own)
            self._own = None


def _opened_anew(descriptor: int) -> int | None:
    """The same pipe or terminal, to be written to without a wait; None where that is not possible
    (a socket, another user's terminal).

    Other processes share the descriptor, so it cannot be made non-blocking itself. And what poll
    says is not enough: a terminal is writable when a fraction of a line fits, and of a pipe's room
    another process may be quicker to take the last.
    """
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
