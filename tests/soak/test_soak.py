"""The soak works, and notices what is wrong. The long one is script/soak."""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from . import __main__ as command
from .figures import MIB, Figures
from .record import Record
from .traffic import KINDS


class Soak(SynchronousTestCase):
    def test_a_short_one(self) -> None:
        """Every kind of traffic, and each fault; what a run of hours does, for seconds."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            arguments = ["--minutes=0.15", "--faults=1.5", "--kill-workers"]
            status = command.main(arguments)
        self.assertEqual(status, 0, said.getvalue())
        for kind in KINDS:
            self.assertRegex(said.getvalue(), rf"Answers: .*[1-9][0-9]* {kind.__name__}\b")


class Judgement(SynchronousTestCase):
    def setUp(self) -> None:
        self.record = Record()
        self.now = time.monotonic()

    def judge(self, status: int, ended: bool, came: bytes) -> None:
        self.record.judge("kind", "name", self.now, status, ended, came, b"abc")

    def test_what_was_due(self) -> None:
        self.judge(200, True, b"abc")
        self.assertEqual((self.record.lost, self.record.wrong), ([], []))
        self.assertEqual(self.record.done["kind"], 1)

    def test_visible_failures(self) -> None:
        for status, ended, came in ((502, True, b"no"), (200, False, b"ab"), (0, False, b"")):
            self.judge(status, ended, came)
        self.assertEqual((len(self.record.lost), self.record.wrong), (3, []))
        self.record.open_window()
        self.judge(502, True, b"no")
        self.record.close_window()
        self.judge(502, True, b"no")  # it began before the end
        self.assertEqual((len(self.record.lost), self.record.forgiven["kind"]), (3, 2))
        self.now = time.monotonic()
        self.judge(502, True, b"no")
        self.assertEqual(len(self.record.lost), 4)

    def test_silent_failures(self) -> None:
        """A window is no excuse."""
        self.record.open_window()
        for status, ended, came in ((200, True, b"abd"), (200, True, b"ab"), (200, False, b"b"),
                                    (400, True, b"no")):  # fmt: skip
            self.judge(status, ended, came)
        self.assertEqual((self.record.lost, len(self.record.wrong)), ([], 4))

    def test_doubled(self) -> None:
        self.judge(200, True, b"abc")
        noted, access = self.mktemp(), self.mktemp()
        for lines, wrong in ((1, 0), (2, 2)):
            self.record.wrong.clear()
            with open(noted, "w") as file:
                file.write("name\n" * lines)
            with open(access, "w") as file:
                file.write('"POST /sink/name HTTP/1.1"\n' * lines)
            self.record.doubled(Path(noted), Path(access))
            self.assertEqual(len(self.record.wrong), wrong)

    def test_memory(self) -> None:
        figures = Figures(1)
        for slope, grown in ((0, False), (0.01, False), (1, True)):
            figures.samples = [(t, int((100 + slope * t) * MIB), 9) for t in range(100)]
            self.assertEqual(figures.grown, grown)
        figures.samples = [(t / 2, int((100 + t) * MIB), 9) for t in range(100)]
        self.assertFalse(figures.grown)  # it was too short
        # A worker was killed, and is replaced.
        figures.samples = [(t, (100 if 40 < t < 60 else 170) * MIB, 9) for t in range(100)]
        self.assertFalse(figures.grown)
