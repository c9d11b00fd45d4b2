"""Memory and descriptors of the proxy's processes, together, as they were again and again. Linux."""

from __future__ import annotations

import os
import statistics
import threading
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.children import family

WARM = 0.3  # the part of a run that is not judged
# Seconds that a run must have before its memory says anything: until then a process that was just
# started, or starts anew on a busy machine, makes all the difference.
LEAST = 60.0
MIB = 1 << 20
LAST = 2 / 3  # from here on memory is compared with what was before
GROWTH = 0.05  # of the most that there was before; and
SLACK = 4 * MIB  # what an allocator may keep of a peak
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Figures:
    """Samples of one proxy: (seconds since the begin, octets resident, descriptors)."""

    def __init__(self, pid: int) -> None:
        self.samples: list[tuple[float, int, int]] = []
        self.pid = pid
        self._begin = time.monotonic()

    def run(self, over: threading.Event, every: float) -> None:
        """Until it is over."""
        while not over.wait(every):
            self.sample()

    def sample(self) -> tuple[int, int]:
        """Octets and descriptors now."""
        octets = descriptors = 0
        for pid in family(self.pid):
            with suppress(OSError):  # ended meanwhile
                octets += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
                descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        self.samples.append((time.monotonic() - self._begin, octets, descriptors))
        return octets, descriptors

    @property
    def warm(self) -> list[tuple[float, int, int]]:
        """The samples after the warm-up."""
        end = self.samples[-1][0]
        return [sample for sample in self.samples if sample[0] >= WARM * end]

    @property
    def slope(self) -> float:
        """Octets a second, after the warm-up."""
        warm = self.warm
        if len(warm) < 3:
            return 0.0
        seconds, octets, _ = zip(*warm, strict=True)
        return statistics.linear_regression(seconds, octets).slope

    @property
    def grown(self) -> bool:
        """Whether memory is not flat: its peak at the end is above the one before. A worker that
        was killed makes a trough, which no slope would survive. Of a short run nobody knows."""
        end = self.samples[-1][0]
        if end < LEAST:
            return False
        before = max(octets for seconds, octets, _ in self.samples if seconds <= LAST * end)
        after = max(octets for seconds, octets, _ in self.samples if seconds >= LAST * end)
        return after > before * (1 + GROWTH) + SLACK

    def __str__(self) -> str:
        warm = self.warm
        octets = [sample[1] for sample in warm]
        descriptors = [sample[2] for sample in warm]
        return (
            f"memory of all processes {octets[0] / MIB:.1f} MiB after the warm-up,"
            f" {octets[-1] / MIB:.1f} at the end, {max(octets) / MIB:.1f} at most, slope"
            f" {self.slope * 3600 / MIB:+.2f} MiB an hour; descriptors {min(descriptors)} to"
            f" {max(descriptors)}. By tenths of the time, from its begin: {self._tenths()}"
        )

    def _tenths(self) -> str:
        """The median of each: shows whether what grows goes on growing."""
        end = self.samples[-1][0]
        tenths: list[list[int]] = [[] for _ in range(10)]
        for seconds, octets, _ in self.samples:
            tenths[min(int(10 * seconds / end), 9)].append(octets)
        return " ".join(f"{statistics.median(each) / MIB:.0f}" for each in tenths if each)
