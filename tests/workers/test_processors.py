"""How many processors a process may use, from made-up control groups."""

from __future__ import annotations

import os
import pathlib

from twisted.trial.unittest import SynchronousTestCase

from authproxy.workers import processors as module
from authproxy.workers.processors import processors


class ProcessorsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = pathlib.Path(self.mktemp())
        self.root.mkdir()
        self.patch(module, "ROOT", self.root / "cgroup")
        self.patch(module, "PROC", self.root / "proc")
        self.patch(os, "sched_getaffinity", lambda _: set(range(8)))

    def of_group(self, line: str, **files: str) -> int:
        """With this line in /proc/self/cgroup, and files by path ("a__b" is a/b)."""
        (self.root / "proc").write_text(line + "\n")
        for name, content in files.items():
            path = self.root / "cgroup" / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            for part, text in zip(
                ("cpu.max", "cpu.cfs_quota_us"), content.split("|"), strict=False
            ):
                if text:
                    (path.parent / part).write_text(text)
                    (path.parent / "cpu.cfs_period_us").write_text("100000\n")
        return processors()

    def test_no_groups(self) -> None:
        self.assertEqual(processors(), 8)

    def test_affinity(self) -> None:
        self.patch(os, "sched_getaffinity", lambda _: {3})
        self.assertEqual(processors(), 1)

    def test_no_quota(self) -> None:
        self.assertEqual(self.of_group("0::/a", a__x="max 100000\n"), 8)

    def test_quota(self) -> None:
        for quota, count in (("200000", 2), ("150000", 2), ("50000", 1), ("1600000", 8)):
            self.assertEqual(self.of_group("0::/a", a__x=f"{quota} 100000\n"), count)

    def test_quota_of_a_group_above(self) -> None:
        self.assertEqual(
            self.of_group("0::/a/b/c", a__x="300000 100000\n", a__b__c__x="400000 100000\n"), 3
        )

    def test_version_1(self) -> None:
        self.assertEqual(self.of_group("4:cpu,cpuacct:/a", cpu__a__x="|400000\n"), 4)
        self.assertEqual(self.of_group("4:cpu,cpuacct:/b", cpu__b__x="|-1\n"), 8)

    def test_a_group_that_is_not_visible(self) -> None:
        """In a container the path may be one of the host."""
        self.assertEqual(self.of_group("0::/../../system.slice"), 8)

    def test_what_cannot_be_read_is_no_quota(self) -> None:
        self.assertEqual(self.of_group("0::/a", a__x="nonsense\n"), 8)

    def test_this_machine(self) -> None:
        self.patch(module, "ROOT", pathlib.Path("/sys/fs/cgroup"))
        self.patch(module, "PROC", pathlib.Path("/proc/self/cgroup"))
        self.assertTrue(1 <= processors() <= 8)
