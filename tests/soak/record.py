"""Owns what is said of a soak: what went right, and what must not have happened.

A fault that was injected has a window. A request that overlaps one may fail, visibly: a 502, 503 or
504, or a connection that is cut. Octets that are wrong are wrong at any time, and so is an answer
that looks complete and is not.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from pathlib import Path

VISIBLE = frozenset((502, 503, 504))
_ID = re.compile(rb" /(?:bytes|sink|mirror|ws)/([^? /]+)")


class Record:
    """Of all threads. `wrong` and `lost` are sentences; both are empty after a good soak."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.octets = 0
        self.forgiven: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.lost: list[str] = []
        self.windows: list[tuple[float, float]] = []
        self.complete: set[str] = set()
        self._lock = threading.Lock()

    def open_window(self) -> None:
        """Something is done to the proxy or its origin now."""
        with self._lock:
            self.windows.append((time.monotonic(), float("inf")))

    def close_window(self) -> None:
        """It is over, and what it did is mended."""
        with self._lock:
            start, _ = self.windows[-1]
            self.windows[-1] = start, time.monotonic()

    @property
    def fault_seconds(self) -> float:
        """How long all windows were."""
        return sum(min(end, time.monotonic()) - start for start, end in self.windows)

    def judge(
        self, kind: str, name: str, since: float, status: int, ended: bool, came: bytes, due: bytes
    ) -> bool:
        """A response, to a request that began at `since`: is it complete, and what was due?"""
        if status == 200 and ended:
            if came == due:
                with self._lock:
                    self.done[kind] += 1
                    self.octets += len(came)
                    self.complete.add(name)
                return True
            self._not_right(self.wrong, f"{name}: {_difference(came, due)}")
        elif status == 200 and not due.startswith(came):
            self._not_right(self.wrong, f"{name}, cut: {_difference(came, due)}")
        elif status in VISIBLE or not ended:
            self.failed(kind, name, since, f"status {status}, {len(came)} of {len(due)} octets")
        else:
            self._not_right(self.wrong, f"{name}: status {status}: {came[:200]!r}")
        return False

    def failed(self, kind: str, name: str, since: float, why: str) -> None:
        """A request failed in sight of its client."""
        now = time.monotonic()
        with self._lock:
            in_window = any(start < now and since < end for start, end in self.windows)
            if in_window:
                self.forgiven[kind] += 1
        if not in_window:
            at = f"{now:.2f}, {now - since:.2f} s after its begin"
            self._not_right(self.lost, f"{name}: {why}, at {at}")

    def doubled(self, noted: Path, access: Path, *, killed: bool = False) -> None:
        """Compare with what the origin and the proxy have written down.

        A worker that is `killed` takes the last lines of its access log with it.
        """
        posts = Counter(noted.read_text().split())
        self.wrong += [f"{name}: it came {n} times" for name, n in posts.items() if n > 1]
        lines = Counter(_ID.findall(access.read_bytes()))
        self.wrong += [
            f"{name}: {count} lines in the access log"
            for name in sorted(self.complete)
            if (count := lines[name.encode()]) != 1 and not (killed and not count)
        ]

    def _not_right(self, sentences: list[str], sentence: str) -> None:
        with self._lock:
            sentences.append(sentence)


def _difference(came: bytes, due: bytes) -> str:
    common = next((i for i, (a, b) in enumerate(zip(came, due, strict=False)) if a != b), None)
    where = min(len(came), len(due)) if common is None else common
    return (
        f"{len(came)} octets came, {len(due)} were due, from {where} on they differ:"
        f" {came[where : where + 20]!r}, {due[where : where + 20]!r}"
    )
