"""The siege runs, and says what a client that behaves saw. The large one is script/siege."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import hostile

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 1800  # seconds, on a machine that is far too slow


class Siege(SynchronousTestCase):
    def test_a_small_one(self) -> None:
        names = ["idle TLS", "HTTP/2 rapid reset", "HTTP/2 uploads that stop", "TLS key updates"]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.hostile", "--count=20", "--seconds=1", *names],
            check=False, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done)
        _, _, *rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
        cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
        self.assertEqual([row[0] for row in cells], names)
        self.assertEqual(cells[0][1], "20 open, 0 refused")
        for row in cells:
            self.assertEqual(len(row), len(hostile.COLUMNS))
            by_name = dict(zip(hostile.COLUMNS, row, strict=True))
            self.assertEqual(by_name["failed"], "0")

    def test_frames(self) -> None:
        """A header of nine octets (RFC 9113 4.1)."""
        self.assertEqual(hostile.frame(1, 5, 3, b"ab"), b"\0\0\x02\x01\x05\0\0\0\x03ab")
