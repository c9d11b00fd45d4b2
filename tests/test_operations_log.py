"""The log of operations: its form in a journal and elsewhere, its level, and what is only counted."""

from __future__ import annotations

import io
import os
import tempfile
from typing import Any, get_args, get_type_hints

from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from authproxy.operations_log import (
    AGAIN,
    LEVELS,
    MOST_FAULTS,
    Counted,
    OperationsLog,
    Threshold,
    is_journal,
)
from authproxy.outlet import Outlet
from authproxy.settings import Log

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} "


class _Tests(SynchronousTestCase):
    journal = False

    def setUp(self) -> None:
        self.stream = self.enterContext(tempfile.TemporaryFile("w+"))
        self.threshold = Threshold()
        outlet = Outlet(self.stream.fileno())
        self.now = 0.0
        written: Any = OperationsLog(outlet, journal=self.journal, threshold=self.threshold)
        self.counted = Counted(written, lambda: self.now)
        observer: Any = self.counted
        self.publisher = LogPublisher(observer)
        self.log = Logger("authproxy.here", observer=self.publisher)

    def lines(self) -> list[str]:
        """What was written since the last call."""
        self.stream.seek(0)
        text = self.stream.read()
        self.stream.seek(0)
        self.stream.truncate(0)
        return text.splitlines()

    def fail(self, words: str = "broken", log: Logger | None = None) -> None:  # type: ignore[override]
        try:
            raise RuntimeError(words)
        except RuntimeError:
            (log or self.log).failure("It did not work")


class TerminalTests(_Tests):
    def test_time_level_message(self) -> None:
        self.log.warn("{key}: so", key="a")
        [line] = self.lines()
        self.assertRegex(line, STAMP + "warn a: so$")

    def test_several_lines_are_one_message(self) -> None:
        self.log.error("first\n  second")
        first, second = self.lines()
        self.assertRegex(first, STAMP + "error first$")
        self.assertEqual(second, "      second")

    def test_nothing_steers_the_terminal(self) -> None:
        self.log.error("{text}", text="a\x1b[2Jb\rc\x9b\u202e")
        [line] = self.lines()
        self.assertTrue(line.isprintable(), line)
        self.assertTrue(line.endswith("a\\x1b[2Jb\\rc\\x9b\\u202e"), line)

    def test_a_stream_that_is_gone(self) -> None:
        self.stream.close()
        self.log.error("nobody hears it")

    def test_a_fault_of_ours(self) -> None:
        self.fail()
        lines = self.lines()
        self.assertIn("critical this machine: a fault of authproxy itself", lines[0])
        self.assertEqual(lines[1], "    It did not work")
        self.assertIn("Traceback", lines[2])
        self.assertIn("RuntimeError: broken", lines[-1])


class JournalTests(_Tests):
    journal = True

    def test_priorities(self) -> None:
        self.threshold.set("debug")
        for level, number in (
            ("debug", 7),
            ("info", 6),
            ("warn", 4),
            ("error", 3),
            ("critical", 2),
        ):
            getattr(self.log, level)("words")
            self.assertEqual(self.lines(), [f"<{number}>words"])

    def test_every_line_of_a_traceback(self) -> None:
        self.fail()
        lines = self.lines()
        self.assertGreater(len(lines), 3)
        self.assertEqual({line[:3] for line in lines}, {"<2>"})

    def test_whether_it_is_one(self) -> None:
        path = self.mktemp()
        with open(path, "w") as stream:
            status = os.fstat(stream.fileno())
            here = f"{status.st_dev}:{status.st_ino}"
            self.assertTrue(is_journal(stream, {"JOURNAL_STREAM": here}))
            for elsewhere in ("", "1", "1:2", f"{here}1", f"x:{status.st_ino}", f"{here}:1"):
                self.assertFalse(is_journal(stream, {"JOURNAL_STREAM": elsewhere}), elsewhere)
            self.assertFalse(is_journal(stream, {}))
            self.assertFalse(is_journal(io.StringIO(), {"JOURNAL_STREAM": here}))
        self.assertFalse(is_journal(stream, {"JOURNAL_STREAM": here}))  # it is closed


class LevelTests(_Tests):
    def test_least(self) -> None:
        for place, least in enumerate(LEVELS):
            self.threshold.set(least)
            for level in LEVELS:
                getattr(self.log, level)("{word}.", word=level)
            written = [line.rpartition(" ")[2] for line in self.lines()]
            self.assertEqual(written, [f"{level}." for level in LEVELS[place:]])

    def test_the_names_are_those_of_the_setting(self) -> None:
        self.assertEqual(Log().level, "info")
        self.assertEqual(get_args(get_type_hints(Log)["level"]), LEVELS)

    def test_twisted(self) -> None:
        """Its ports and factories are for debug, its warnings for everybody."""
        theirs = Logger("twisted.internet.tcp", observer=self.publisher)
        theirs.info("Listener starting on 443")
        self.assertEqual(self.lines(), [])
        theirs.warn("odd")
        self.assertRegex(self.lines()[0], "warn twisted.internet.tcp: odd$")
        self.threshold.set("debug")
        theirs.info("Listener starting on 443")
        self.assertRegex(self.lines()[0], "twisted.internet.tcp: Listener starting on 443$")

    def test_a_critical_one_is_never_left_out(self) -> None:
        self.threshold.set("error")
        self.fail()
        self.assertTrue(self.lines())


class CountedTests(_Tests):
    def tracebacks(self) -> int:
        return sum("Traceback" in line for line in self.lines())

    def test_the_same_place(self) -> None:
        """A fault that every client can cause: one traceback, not as many as clients."""
        for number in range(1000):
            self.fail(f"broken for client {number}")
        self.assertEqual(self.tracebacks(), 1)
        self.now += AGAIN - 1
        self.counted.sweep()
        self.assertEqual(self.lines(), [])
        self.now += 1
        self.counted.sweep()
        text = "\n".join(self.lines())
        self.assertIn("(999 more like the following, the last of them) It did not work", text)
        self.assertIn("broken for client 999", text)
        self.counted.sweep()
        self.assertEqual(self.lines(), [])

    def test_once_is_not_counted(self) -> None:
        self.fail()
        self.lines()
        self.now += 2 * AGAIN
        self.counted.sweep()
        self.assertEqual(self.lines(), [])
        self.fail()
        self.assertEqual(self.tracebacks(), 1)

    def test_other_places(self) -> None:
        self.fail()
        with self.assertRaises(ZeroDivisionError):
            try:
                1 / 0  # noqa: B018
            except ZeroDivisionError:
                self.log.failure("It did not work")
                raise
        self.assertEqual(self.tracebacks(), 2)

    def test_messages_pass(self) -> None:
        for _ in range(3):
            self.log.error("said three times on purpose")
        self.assertEqual(len(self.lines()), 3)

    def test_what_is_remembered_is_bounded(self) -> None:
        for number in range(3 * MOST_FAULTS):
            self.log.failure(f"fault {number}", Failure(RuntimeError()))
        self.assertLessEqual(len(self.counted._known), MOST_FAULTS + 1)
        self.assertLessEqual("\n".join(self.lines()).count("RuntimeError"), MOST_FAULTS + 1)
