"""What is divided among workers."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from authproxy.settings import Limits, PoolSettings, Settings
from authproxy.transport.admission import MOST
from authproxy.workers.totals import divided


class DividedTests(SynchronousTestCase):
    def test_totals(self) -> None:
        whole = attrs.evolve(
            Settings(),
            limits=Limits(connections=1000),
            pool=PoolSettings(connections=256, idle=32, waiting=1024),
        )
        one = divided(whole, 4)
        self.assertEqual(one.limits.connections, 250)
        self.assertEqual((one.pool.connections, one.pool.waiting), (64, 256))

    def test_rounded_up(self) -> None:
        """Nobody is left with nothing."""
        small = attrs.evolve(
            Settings(), limits=Limits(connections=3), pool=PoolSettings(connections=1, idle=1)
        )
        one = divided(small, 4)
        self.assertEqual((one.limits.connections, one.pool.connections), (1, 1))

    def test_none_stays_none(self) -> None:
        pool = divided(attrs.evolve(Settings(), pool=PoolSettings(idle=0, waiting=0)), 4).pool
        self.assertEqual((pool.idle, pool.waiting), (0, 0))

    def test_no_number_is_what_a_process_could_have_at_most(self) -> None:
        self.assertEqual(divided(Settings(), 4).limits.connections, MOST // 4)

    def test_all_else_is_everybodys_own(self) -> None:
        whole = Settings()
        one = divided(whole, 4)
        same = attrs.evolve(one, limits=whole.limits, pool=whole.pool)
        self.assertEqual(same, whole)
        self.assertEqual(one.limits.unproven_per_address, whole.limits.unproven_per_address)
        self.assertEqual(one.limits.head_bytes, whole.limits.head_bytes)
        self.assertEqual(one.pool.idle_timeout, whole.pool.idle_timeout)
        self.assertEqual(one.pool.idle, whole.pool.idle)
