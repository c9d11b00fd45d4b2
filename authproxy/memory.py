"""Owns giving memory back to the system when a crowd of connections has gone.

The C library keeps what is freed inside its heap, so a process stays as large as its worst hour:
of 3,000 idle TLS connections that had closed 72 MiB were left, and 10 after malloc_trim. That takes
45 ms, in which nothing else is done, so it is asked for only where it is worth it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

EVERY = 60.0  # seconds between two looks
WORTH = 32 << 20  # octets
A_CONNECTION = 50 << 10  # octets that an open one may have, with its other side: no surplus
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Octets of this process in memory; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0


def trim() -> None:
    """Let the C library give back what it can. Only glibc knows how."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)


class Surplus:
    """Looks every minute for memory that open connections do not account for.

    `now` is a clock in seconds, `connections` how many are open.
    """

    def __init__(
        self,
        now: Callable[[], float],
        connections: Callable[[], int],
        resident: Callable[[], int] = resident,
        trim: Callable[[], None] = trim,
    ) -> None:
        self.deadline = now() + EVERY
        self._connections = connections
        self._resident = resident
        self._trim = trim
        self._least = self._beside_connections()  # what the process needs itself

    def deadline_passed(self, now: float) -> None:
        """Look."""
        self.deadline = now + EVERY
        if self._beside_connections() - self._least >= WORTH:
            self._trim()
            self._least = self._beside_connections()  # what is left is in use
        self._least = min(self._least, self._beside_connections())

    def _beside_connections(self) -> int:
        return self._resident() - A_CONNECTION * self._connections()
