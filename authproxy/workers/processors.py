"""Owns one question: how many processors may this process use? (Linux, from /proc and cgroups.)"""

from __future__ import annotations

import math
import os
import pathlib

PROC = pathlib.Path("/proc/self/cgroup")
ROOT = pathlib.Path("/sys/fs/cgroup")


def processors() -> int:
    """Those of its affinity mask, as far as the quota of its control group goes; at least 1."""
    allowed = len(os.sched_getaffinity(0))
    quota = _quota(PROC, ROOT)
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def _quota(proc: pathlib.Path, root: pathlib.Path) -> float | None:
    """The least quota of the process's groups, in processors; None: there is none."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":
            base, read = root, _of_version_2
        elif "cpu" in controllers.split(","):
            base, read = root / "cpu", _of_version_1
        else:
            continue
        group = base / path.strip("/")
        while True:  # the group and all above it
            quota = read(group)
            if quota is not None:
                quotas.append(quota)
            if group in (base, group.parent):
                break
            group = group.parent
    return min(quotas, default=None)


def _of_version_2(group: pathlib.Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _of_version_1(group: pathlib.Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
