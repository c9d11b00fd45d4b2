"""When memory is given back, and that it is."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from unittest import skipUnless

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from authproxy.memory import A_CONNECTION, EVERY, WORTH, Surplus, resident, trim

MIB = 1 << 20
# As many SSL objects would leave them: pieces with something in use between them.
CROWD = """
from authproxy.memory import resident, trim
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
pieces = [libc.malloc(20_000) for _ in range(5000)]
for piece in pieces:
    ctypes.memset(piece, 1, 20_000)
for number, piece in enumerate(pieces):
    if number % 50:
        libc.free(piece)
before = resident()
trim()
print(before - resident())
"""


class SurplusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.resident, self.kept, self.connections, self.trims = 60 * MIB, 60 * MIB, 0, 0
        self.surplus = Surplus(
            self.clock.seconds, lambda: self.connections, lambda: self.resident, self.trim
        )

    def trim(self) -> None:
        self.trims += 1
        self.resident = self.kept

    def look(self) -> int:
        """How often memory was given back until now."""
        self.clock.advance(EVERY)
        self.assertEqual(self.surplus.deadline, self.clock.seconds())
        self.surplus.deadline_passed(self.clock.seconds())
        return self.trims

    def test_a_crowd(self) -> None:
        """While it is here nothing can be had. When it is gone, once."""
        self.connections, self.resident = 10_000, 300 * MIB
        self.assertEqual(self.look(), 0)
        self.connections = 0
        self.assertEqual([self.look(), self.look()], [1, 1])
        self.resident = self.kept + WORTH - 1
        self.assertEqual(self.look(), 1)
        self.resident += 1
        self.assertEqual(self.look(), 2)

    def test_a_crowd_between_two_looks(self) -> None:
        self.resident = 300 * MIB
        self.assertEqual(self.look(), 1)

    def test_what_is_in_use(self) -> None:
        """It is asked for once, not each minute."""
        self.resident = self.kept = 200 * MIB
        self.assertEqual([self.look() for _ in range(3)], [1, 1, 1])

    def test_part_of_it_stays(self) -> None:
        self.connections, self.resident = 5000, 60 * MIB + 5000 * A_CONNECTION
        self.assertEqual(self.look(), 0)
        self.connections = 1000
        self.kept = 60 * MIB + 1000 * A_CONNECTION
        self.assertEqual([self.look(), self.look()], [1, 1])

    def test_where_nobody_says(self) -> None:
        self.resident = self.kept = 0
        self.connections = 5000
        self.assertEqual(self.look(), 0)


class TrimTests(SynchronousTestCase):
    def test_this_process(self) -> None:
        self.assertGreater(resident(), MIB)
        trim()

    @skipUnless(hasattr(ctypes.CDLL(None), "malloc_trim"), "not glibc")
    def test_given_back(self) -> None:
        found = subprocess.run(
            [sys.executable, "-c", CROWD], capture_output=True, text=True, check=True
        )
        self.assertGreater(int(found.stdout), 50 * MIB)
