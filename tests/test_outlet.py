"""Text to a descriptor whose reader is gone, asleep, or has a full disk: nobody waits."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import time
from typing import Any

from twisted.logger import Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from authproxy.operations_log import OperationsLog, Threshold
from authproxy.outlet import MOST_HELD, Outlet

LONG = "x" * 10_000 + "\n"


class OutletTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reader, writer = os.pipe()
        self.addCleanup(os.close, writer)
        self.writer = writer
        self.outlet = Outlet(writer)

    def read(self) -> str:
        """What is in the pipe."""
        os.set_blocking(self.reader, False)
        came = b""
        try:
            while piece := os.read(self.reader, 1 << 20):
                came += piece
        except BlockingIOError:
            pass
        return came.decode()

    def read_on(self) -> str:
        """That, and what was held meanwhile."""
        text = ""
        for _ in range(100):
            text += self.read()
            if not self.outlet.behind:
                return text
            self.outlet.flush()
        raise AssertionError("it is never written")

    def test_text(self) -> None:
        self.outlet.write("Grüße\n")
        self.outlet.write("\udc80\n")
        self.assertEqual(self.read(), "Grüße\n\\udc80\n")
        self.assertFalse(self.outlet.behind)

    def test_reader_that_sleeps(self) -> None:
        """In order, whole, and without a wait."""
        texts = [f"{number} {LONG}" for number in range(20)]
        for text in texts:
            self.outlet.write(text)
        self.assertTrue(self.outlet.behind)
        self.assertEqual(self.read_on(), "".join(texts))
        self.assertEqual(self.outlet.lost, 0)

    def test_terminal_that_nobody_reads(self) -> None:
        """It takes less than it says: a line may be taken in part."""
        shown, terminal = os.openpty()
        self.addCleanup(os.close, shown)
        self.addCleanup(os.close, terminal)
        self.reader = shown
        self.outlet = Outlet(terminal)
        self.addCleanup(self.outlet.close)
        self.raise_if_it_waits()
        lines = [f"{number} {'x' * 1500}\n" for number in range(50)]
        for line in lines:
            self.outlet.write(line)
        self.assertTrue(self.outlet.behind)
        wanted, shown_so_far = "".join(lines), ""
        while len(shown_so_far) < len(wanted):  # it comes through a thread of the kernel's
            self.outlet.flush()
            shown_so_far += self.read().replace("\r", "")
            time.sleep(0.001)
        self.assertEqual(shown_so_far, wanted)
        self.assertFalse(self.outlet.behind)

    def raise_if_it_waits(self) -> None:
        def waits(*_: Any) -> None:
            raise AssertionError("it waits")

        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, waits))
        self.addCleanup(signal.alarm, 0)
        signal.alarm(60)

    def test_too_much(self) -> None:
        """The last are lost, and counted; none is torn."""
        count = MOST_HELD // len(LONG) * 2
        for number in range(count):
            self.outlet.write(f"{number:03} {LONG}")
        lines = self.read_on().splitlines()
        self.assertEqual(len(lines) + self.outlet.lost, count)
        self.assertGreater(self.outlet.lost, 0)
        for number, line in enumerate(lines):
            self.assertEqual(line, f"{number:03} {LONG.strip()}")

    def test_reader_that_is_gone(self) -> None:
        os.close(self.reader)
        for _ in range(3):
            self.outlet.write("lost\n")
        self.assertTrue(self.outlet.behind)
        self.outlet.close()  # it does not wait for nobody

    def test_disk_full(self) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            outlet = Outlet(full.fileno())
            outlet.write("lost\n")
            outlet.close()
        self.assertTrue(outlet.behind)

    def test_disk_that_becomes_full(self) -> None:
        """A write that takes half of a line is gone on with, once there is room."""
        self.patch_signal()
        with tempfile.TemporaryFile() as file:
            outlet = Outlet(file.fileno())
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(LONG) + 10, limits[1]))
            try:
                outlet.write(LONG)
                outlet.write("second, which is torn\n")
                outlet.write("third\n")
                self.assertTrue(outlet.behind)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            outlet.write("fourth\n")
            file.seek(0)
            text = file.read().decode()
        self.assertEqual(text, LONG + "second, which is torn\nthird\nfourth\n")

    def patch_signal(self) -> None:
        self.addCleanup(
            signal.signal, signal.SIGXFSZ, signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        )

    def test_what_was_lost_is_said(self) -> None:
        """Once there is a place to say it."""
        written: Any = OperationsLog(self.outlet, threshold=Threshold())
        log = Logger("authproxy.here", observer=LogPublisher(written))
        for _ in range(60):
            log.info("{long}", long=LONG)
        log.info("not yet")
        self.read_on()
        log.info("again")
        log.info("and again")
        lost, again, more = (line.split(" ", 1)[1] for line in self.read().splitlines())
        self.assertRegex(lost, r"^error this machine: \d\d messages of this log are lost: ")
        self.assertEqual((again, more), ("info again", "info and again"))
