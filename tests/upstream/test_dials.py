"""Which server is dialled, and what follows from dials that fail or take long."""

from __future__ import annotations

from authproxy.deadlines import RESOLUTION
from authproxy.errors import ConnectFailed, UpstreamError
from authproxy.upstream.dials import SLOW_DIAL

from .pools import PoolTests


class FailedDialTests(PoolTests):
    def test_the_next_server_is_tried(self) -> None:
        """Nothing was sent: for any method."""
        pool = self.pool(2)
        waiter = self.take(pool)
        self.assertEqual(self.dials[0][1], pool.servers[0])
        self.refused()
        self.assertIsNone(waiter.error)
        self.assertEqual(self.dials[0][1], pool.servers[1])
        self.dialled()
        self.assertEqual(self.names([waiter]), ["1"])

    def test_the_last_one_fails(self) -> None:
        pool = self.pool(2)
        waiter = self.take(pool)
        self.refused()
        error = self.refused()
        self.assertIs(waiter.error, error)
        self.assertEqual((self.dials, pool.open), ([], 0))

    def test_each_failed_dial_ends_one_wait(self) -> None:
        pool = self.pool()
        waiters = [self.take(pool) for _ in range(3)]
        errors = [self.refused() for _ in range(3)]
        self.assertEqual([waiter.error for waiter in waiters], errors)

    def test_a_single_server_is_dialled_in_its_backoff_too(self) -> None:
        pool = self.pool()
        for _ in range(3):
            self.take(pool)
            self.refused()
        self.take(pool)
        self.assertEqual(len(self.dials), 1)

    def test_all_failed(self) -> None:
        """Each request tries all of them, the one that failed longest ago first: the first that is
        back is found."""
        pool = self.pool(2)
        first = self.take(pool)
        self.refused()
        self.advance(RESOLUTION)
        self.refused()
        self.assertIsNotNone(first.error)
        second = self.take(pool)
        self.assertEqual(self.dials[0][1], pool.servers[0])
        self.refused()
        self.assertIsNone(second.error)
        self.assertEqual(self.dials[0][1], pool.servers[1])
        self.dialled()
        self.assertEqual(self.names([second]), ["1"])

    def test_many_wait_while_all_fail(self) -> None:
        """Each hears of it once, and no more is dialled than they could use."""
        pool = self.pool(2)
        waiters = [self.take(pool) for _ in range(5)]
        while self.dials:
            self.refused()
        self.assertNotIn(None, [waiter.error for waiter in waiters])
        self.assertLessEqual(pool.counts.dials, 2 * len(waiters))
        self.assertEqual((pool.open, pool.waiting), (0, 0))

    def test_idle_connections_of_a_server_that_failed_are_still_good(self) -> None:
        pool = self.pool()
        _, second = self.served(pool, 2)
        self.take(pool)
        self.refused()
        second.end()
        self.assertIs(self.take(pool).connection, second.connection)

    def test_an_error_that_is_none_of_ours(self) -> None:
        pool = self.pool()
        waiter = self.take(pool)
        self.dials.pop()[0].errback(RuntimeError("a bug"))
        self.assertIsInstance(waiter.error, UpstreamError)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class SlowDialTests(PoolTests):
    """A server behind a dead network answers nothing at all."""

    def test_another_is_dialled_beside_it(self) -> None:
        pool = self.pool(2)
        waiter = self.take(pool)
        self.advance(SLOW_DIAL - RESOLUTION)
        self.assertEqual(len(self.dials), 1)
        self.advance(RESOLUTION)
        self.assertEqual([server for _, server in self.dials], pool.servers)
        self.dialled(1)
        self.assertIs(waiter.connection and waiter.connection.server, pool.servers[1])

    def test_who_comes_next_does_not_wait(self) -> None:
        pool = self.pool(2)
        self.take(pool)
        self.advance(SLOW_DIAL)
        self.dialled(1)
        self.take(pool)
        self.assertIs(self.dials[-1][1], pool.servers[1])

    def test_idle_connections_of_the_slow_one(self) -> None:
        """It may only be busy: all requests at once would be too much for the other."""
        pool = self.pool(2)
        waiters = self.served(pool, 2)
        waiters[0].end()
        busy = self.take(pool)
        again = self.take(pool)
        self.advance(SLOW_DIAL)
        self.assertEqual([server.slow for server in pool.servers], [1, 0])
        assert busy.connection is not None
        busy.end()
        self.assertIs(again.connection, busy.connection)
        again.end()
        self.assertIs(self.take(pool).connection, busy.connection)

    def test_it_succeeds_after_all(self) -> None:
        pool = self.pool(2)
        waiter = self.take(pool)
        self.advance(SLOW_DIAL)
        slow = self.dialled(0)
        self.assertIs(waiter.connection, slow)
        kept = self.dialled()
        self.assertEqual(pool.servers[1].idle, [kept])
        self.assertEqual([server.slow for server in pool.servers], [0, 0])
        self.assertEqual([server.dialling for server in pool.servers], [0, 0])

    def test_all_others_fail(self) -> None:
        """The slow one has the last word, and nobody dials again and again meanwhile."""
        pool = self.pool(2)
        waiter = self.take(pool)
        self.advance(SLOW_DIAL)
        self.refused(1)
        self.assertIsNone(waiter.error)
        self.advance(SLOW_DIAL)
        self.assertEqual((len(self.dials), pool.counts.dials), (1, 2))
        error = self.refused()
        self.assertIs(waiter.error, error)
        self.assertEqual([server.slow for server in pool.servers], [0, 0])

    def test_all_are_slow(self) -> None:
        pool = self.pool(2)
        waiter = self.take(pool)
        self.advance(2 * SLOW_DIAL + RESOLUTION)
        self.assertEqual(pool.counts.dials, 2)
        self.advance(5)
        self.assertIsInstance(waiter.error, ConnectFailed)

    def test_the_only_server(self) -> None:
        pool = self.pool()
        self.take(pool)
        self.advance(SLOW_DIAL + 1)
        self.assertEqual((pool.counts.dials, pool.servers[0].slow), (1, 0))
        self.dialled()
        self.assertEqual((pool.servers[0].dialling, pool.servers[0].slow), (0, 0))

    def test_nobody_waits_any_longer(self) -> None:
        pool = self.pool(2)
        pool.forget_waiter(self.take(pool))
        self.advance(SLOW_DIAL + 1)
        self.assertEqual(pool.counts.dials, 1)
