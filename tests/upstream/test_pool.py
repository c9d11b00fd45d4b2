"""Who gets which connection, when one is dialled, and when one is closed."""

from __future__ import annotations

import socket

from authproxy.deadlines import RESOLUTION
from authproxy.errors import ConnectFailed, NoCapacity
from authproxy.settings import PoolSettings
from authproxy.upstream.connection import Connection
from authproxy.upstream.dials import SLOW_DIAL
from authproxy.upstream.pool import EXCESS, PEEK_AFTER, Pool
from authproxy.upstream.server import BACKOFF, BACKOFF_MOST

from .pools import PoolTests, Waiter


class LeaseTests(PoolTests):
    def test_a_miss_dials(self) -> None:
        pool = self.pool()
        waiter = self.take(pool)
        self.assertIsNone(waiter.connection)
        self.assertEqual((len(self.dials), pool.waiting, pool.open), (1, 1, 1))
        connection = self.dialled()
        self.assertIs(waiter.connection, connection)
        self.assertEqual((pool.waiting, pool.counts.dials, pool.counts.reuses), (0, 1, 0))

    def test_a_hit_is_at_once(self) -> None:
        pool = self.pool()
        [connection] = self.idle(pool)
        self.assertIs(self.take(pool).connection, connection)
        self.assertEqual((self.dials, pool.counts.reuses), ([], 1))

    def test_the_last_given_back_goes_first(self) -> None:
        """So the others age, and a quiet time closes them."""
        pool = self.pool()
        _, second = self.idle(pool, 2)
        self.assertIs(self.take(pool).connection, second)

    def test_one_dial_for_each_that_waits(self) -> None:
        pool = self.pool()
        waiters = [self.take(pool) for _ in range(3)]
        self.assertEqual(len(self.dials), 3)
        connections = [self.dialled() for _ in range(3)]
        self.assertEqual([waiter.connection for waiter in waiters], connections)

    def test_a_connection_that_comes_back_first_serves_who_waits(self) -> None:
        pool = self.pool()
        [busy] = self.served(pool)
        waiter = self.take(pool)
        busy.end()
        self.assertIs(waiter.connection, busy.connection)
        kept = self.dialled()  # its waiter was served otherwise
        self.assert_idle(pool, kept)

    def test_a_waiter_that_left_while_dialling(self) -> None:
        pool = self.pool()
        waiter = self.take(pool)
        pool.forget_waiter(waiter)
        kept = self.dialled()
        self.assertIsNone(waiter.connection)
        self.assert_idle(pool, kept)
        self.assertIs(self.take(pool).connection, kept)

    def test_the_dial_of_a_waiter_that_left_serves_the_next(self) -> None:
        pool = self.pool()
        pool.forget_waiter(self.take(pool))
        waiter = self.take(pool)
        self.assertEqual(len(self.dials), 1)
        self.assertIs(waiter.connection or self.dialled(), waiter.connection)

    def test_a_failed_dial_of_a_waiter_that_left(self) -> None:
        pool = self.pool()
        pool.forget_waiter(self.take(pool))
        self.refused()
        self.assertEqual((pool.open, pool.waiting), (0, 0))

    def test_repr(self) -> None:
        pool = self.pool()
        self.idle(pool, 2)
        self.take(pool)
        self.assertEqual(
            repr(pool), "<Pool http://10.0.0.0:9000 idle=1 leased=1 dialling=0 waiting=0>"
        )


class CutTests(PoolTests):
    def test_others_are_asked_first(self) -> None:
        pool = self.pool(2)
        [connection] = self.idle(pool)
        pool.cut(connection.server)
        self.hang_up(connection)
        self.assertEqual([self.server_dialled(pool) for _ in range(3)], [1, 1, 1])
        self.advance(BACKOFF)
        self.assertEqual(self.server_dialled(pool), 0)

    def test_it_may_take_connections_yet(self) -> None:
        """Who waits for the other, which then refuses, is not told that there is none."""
        pool = self.pool(2)
        [first] = self.served(pool)
        waiter = self.take(pool)
        assert first.connection is not None
        self.assertEqual(pool.servers.index(self.dials[0][1]), 1)
        pool.cut(first.connection.server)
        self.refused()
        self.assertIsNone(waiter.error)
        self.assertIs(self.dialled().server, pool.servers[0])
        self.assertIsNotNone(waiter.connection)

    def test_the_other_has_refused_before(self) -> None:
        """A cut is the lesser fault."""
        pool = self.pool(2)
        [first] = self.served(pool)
        self.take(pool)
        self.refused()
        assert first.connection is not None
        pool.cut(first.connection.server)
        self.dialled()
        self.advance(BACKOFF / 2)
        pool.cut(pool.servers[0])
        self.assertEqual(self.server_dialled(pool), 0)

    def server_dialled(self, pool: Pool) -> int:
        """Which one somebody who comes now waits for."""
        self.take(pool)
        return pool.servers.index(self.dials[-1][1])


class FreshTests(PoolTests):
    def test_idle_ones_are_left(self) -> None:
        pool = self.pool()
        [old] = self.idle(pool)
        waiter = self.take(pool, fresh=True)
        self.assertIsNone(waiter.connection)
        new = self.dialled()
        self.assertIs(waiter.connection, new)
        self.assert_idle(pool, old)

    def test_who_comes_later_takes_the_idle_ones(self) -> None:
        pool = self.pool()
        [old] = self.idle(pool)
        waiter = self.take(pool, fresh=True)
        self.assertIs(self.take(pool).connection, old)
        self.assertIsNone(waiter.connection)

    def test_where_none_can_be_made_any_will_do(self) -> None:
        pool = self.pool(connections=1)
        [busy] = self.served(pool)
        waiter = self.take(pool, fresh=True)
        self.assertEqual(self.dials, [])
        busy.end()
        self.assertIs(waiter.connection, busy.connection)

    def test_dead_connections_while_some_wait(self) -> None:
        """A dead connection makes room, which serves those who wait; the rest stays as it is."""
        pool = self.pool()
        connections = self.idle(pool, 4)
        self.advance(PEEK_AFTER + 1)
        self.transport(connections[-1]).getHandle = _Dead  # type: ignore[method-assign]
        fresh = self.take(pool, fresh=True)
        later = self.take(pool)
        self.assertIs(later.connection, connections[2])
        self.assert_idle(pool, *connections[:2])
        self.assertIs(fresh.connection or self.dialled(), fresh.connection)
        later.end()
        self.assertEqual((pool.servers[0].leased, pool.open), (1, 4))


class _Dead:
    """A socket whose peer closed."""

    def recv(self, *args: object) -> bytes:
        return b""


class LimitTests(PoolTests):
    def test_connections(self) -> None:
        pool = self.pool(connections=2)
        _, second = self.served(pool, 2)
        waiter = self.take(pool)
        self.assertEqual((self.dials, pool.waiting), ([], 1))
        second.end()
        self.assertIs(waiter.connection, second.connection)

    def test_a_place_that_becomes_free_is_dialled_for(self) -> None:
        pool = self.pool(connections=1)
        [busy] = self.served(pool)
        waiter = self.take(pool)
        assert busy.connection is not None
        busy.connection.abort()
        self.assertIs(waiter.connection or self.dialled(), waiter.connection)

    def test_a_relay_is_none_of_them(self) -> None:
        """A WebSocket's connection leaves the pool."""
        pool = self.pool(connections=1)
        [relay] = self.served(pool)
        assert relay.connection is not None
        pool.servers[0].forget(relay.connection)
        self.assertEqual(pool.open, 0)
        self.take(pool)
        self.assertEqual(len(self.dials), 1)

    def test_idle(self) -> None:
        """More are kept for a moment: the next requests of a burst need them."""
        pool = self.pool(idle=2)
        connections = self.idle(pool, 3)
        self.assert_idle(pool, *connections)
        self.advance(EXCESS + 1)
        self.assert_idle(pool, *connections[:2])
        self.assertEqual(self.transport(connections[2]).ended, "lose")
        self.assertEqual(pool.open, 2)

    def test_a_burst_dials_once(self) -> None:
        pool = self.pool(idle=2)
        for _ in range(3):
            self.idle(pool, 8)
            self.assertEqual(pool.counts.dials, 8)

    def test_none_idle(self) -> None:
        pool = self.pool(idle=0)
        [connection] = self.idle(pool)
        self.assert_idle(pool)
        self.assertEqual(self.transport(connection).ended, "lose")

    def test_waiting(self) -> None:
        pool = self.pool(connections=1, waiting=2)
        self.served(pool)
        waiters = [self.take(pool) for _ in range(2)]
        self.assertRaises(NoCapacity, self.take, pool)
        self.assertEqual([waiter.error for waiter in waiters], [None, None])

    def test_order(self) -> None:
        pool = self.pool(connections=1)
        [busy] = self.served(pool)
        waiters = [self.take(pool) for _ in range(4)]
        pool.forget_waiter(waiters[1])
        for waiter in (waiters[0], waiters[2], waiters[3]):
            self.assertIsNone(waiter.connection)
            busy.end()
            self.assertIs(waiter.connection, busy.connection)
            busy = waiter
        self.assertIsNone(waiters[1].connection)

    def test_requests_that_are_whole_go_first(self) -> None:
        """Of the others it is the client who says for how long they have a connection."""
        pool = self.pool(connections=1)
        [busy] = self.served(pool)
        waiters = [Waiter(whole) for whole in (False, True, False, True)]
        for waiter in waiters:
            self.assertIsNone(pool.take(waiter))
        for waiter in (waiters[1], waiters[3], waiters[0], waiters[2]):
            busy.end()
            self.assertIs(waiter.connection, busy.connection)
            busy = waiter

    def test_whole_ones_take_the_places_of_others(self) -> None:
        """Where the queue is full: of who came last."""
        pool = self.pool(connections=1, waiting=3)
        self.served(pool)
        waiters = [Waiter(False), Waiter(True), Waiter(False)]
        for waiter in waiters:
            pool.take(waiter)
        self.assertRaises(NoCapacity, pool.take, Waiter(False))
        for _ in range(2):
            pool.take(Waiter(True))
        self.assertRaises(NoCapacity, pool.take, Waiter(True))
        self.assertEqual([type(w.error) for w in waiters], [NoCapacity, type(None), NoCapacity])
        self.assertEqual(pool.waiting, 3)

    def test_each_wait_is_as_long(self) -> None:
        """Whoever goes first."""
        pool = self.pool(connections=1)
        self.served(pool)
        first, second, third = Waiter(False), Waiter(True), Waiter(False)
        pool.take(first)
        self.advance(3)
        pool.take(second)
        pool.take(third)
        pool.forget_waiter(third)
        self.advance(2.5)
        self.assertIsInstance(first.error, NoCapacity)
        self.assertIsNone(second.error)
        self.advance(3)
        self.assertIsInstance(second.error, NoCapacity)
        self.assertEqual((pool.waiting, third.error), (0, None))

    def test_nobody_overtakes_the_queue(self) -> None:
        pool = self.pool(connections=1)
        [busy] = self.served(pool)
        first, second = self.take(pool), self.take(pool)
        busy.end()  # first's now
        third = self.take(pool)
        first.end()
        self.assertIsNotNone(second.connection)
        self.assertIsNone(third.connection)

    def test_waiting_for_too_long(self) -> None:
        pool = self.pool(connections=1)
        [busy] = self.served(pool)
        first = self.take(pool)
        self.advance(3)
        second = self.take(pool)
        self.advance(1.5)
        self.assertIsNone(first.error)
        self.advance(1)
        self.assertIsInstance(first.error, NoCapacity)
        assert first.error is not None
        self.assertEqual((first.error.status, first.error.retry_after), (503, 5))
        self.assertIsNone(second.error)
        busy.end()
        self.assertIsNotNone(second.connection)
        self.advance(20)  # and nobody hears anything twice
        self.assertEqual(pool.waiting, 0)

    def test_who_has_a_dial_of_his_own_does_not_wait(self) -> None:
        pool = self.pool(waiting=0, connections=2, idle=1)
        waiters = [self.take(pool), self.take(pool)]
        self.assertRaises(NoCapacity, pool.take, waiters[0])
        for waiter in waiters:
            self.dialled()
            self.assertIsNotNone(waiter.connection)

    def test_a_dial_that_takes_too_long(self) -> None:
        pool = self.pool()
        waiter = self.take(pool)
        self.advance(6)
        self.assertIsInstance(
            waiter.error, ConnectFailed
        )  # not "no capacity": that has other cures
        kept = self.dialled()
        self.assert_idle(pool, kept)


class ExpiryTests(PoolTests):
    def test_idle(self) -> None:
        pool = self.pool()
        [connection] = self.idle(pool)
        self.advance(24)
        self.assert_idle(pool, connection)
        self.advance(2)
        self.assert_idle(pool)
        self.assertEqual(self.transport(connection).ended, "lose")
        self.assertEqual(pool.open, 0)

    def test_use_starts_it_again_and_a_lease_has_none(self) -> None:
        pool = self.pool()
        [connection] = self.idle(pool)
        self.advance(20)
        waiter = self.take(pool)
        self.advance(50)
        self.assertFalse(self.transport(connection).ended)
        waiter.end()
        self.advance(20)
        self.assert_idle(pool, connection)

    def test_age(self) -> None:
        pool = self.pool()
        [connection] = self.idle(pool)
        for _ in range(3600 // 20):
            self.assertEqual(self.transport(connection).ended, "")
            waiter = self.take(pool)
            self.assertIs(waiter.connection, connection)
            self.advance(20)
            waiter.end()
        self.assertEqual(self.transport(connection).ended, "lose")
        self.assertEqual(pool.open, 0)

    def test_upstream_closes_an_idle_one(self) -> None:
        pool = self.pool()
        first, second = self.idle(pool, 2)
        self.hang_up(second)
        self.assert_idle(pool, first)
        self.assertIs(self.take(pool).connection, first)


class LivenessTests(PoolTests):
    """Over a real socket pair: what the kernel knows and no event has told yet."""

    def real(self, pool: Pool) -> tuple[Connection, socket.socket]:
        [connection] = self.idle(pool)
        here, there = socket.socketpair()
        self.addCleanup(here.close)
        self.addCleanup(there.close)
        here.setblocking(False)
        self.transport(connection).getHandle = lambda: here  # type: ignore[method-assign]
        self.advance(PEEK_AFTER + RESOLUTION)
        return connection, there

    def test_quiet(self) -> None:
        pool = self.pool()
        connection, _ = self.real(pool)
        self.assertIs(self.take(pool).connection, connection)

    def test_closed(self) -> None:
        pool = self.pool()
        connection, there = self.real(pool)
        there.close()
        waiter = self.take(pool)
        self.assertIsNone(waiter.connection)
        self.assertEqual(self.transport(connection).ended, "abort")
        self.assertEqual((len(self.dials), pool.open), (1, 1))
        self.dialled()
        self.assertIsNotNone(waiter.connection)

    def test_spoke(self) -> None:
        """A response to nothing must not become the answer of the next request."""
        pool = self.pool()
        connection, there = self.real(pool)
        there.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.assertIsNone(self.take(pool).connection)
        self.assertEqual(self.transport(connection).ended, "abort")

    def test_the_next_one_is_asked(self) -> None:
        pool = self.pool()
        waiters = self.served(pool, 2)
        for waiter in waiters:
            waiter.end()
        alive, dead = (waiter.connection for waiter in waiters)
        assert alive is not None and dead is not None
        self.transport(dead).getHandle = _Dead  # type: ignore[method-assign]
        self.advance(PEEK_AFTER + RESOLUTION)
        self.assertIs(self.take(pool).connection, alive)
        self.assertEqual((self.dials, pool.open), ([], 1))


class ServerTests(PoolTests):
    """Several servers."""

    def test_least_connections(self) -> None:
        pool = self.pool(3)
        self.assertEqual(sorted(self.names(self.served(pool, 6))), list("001122"))

    def test_dials_count(self) -> None:
        pool = self.pool(2)
        for _ in range(4):
            self.take(pool)
        self.assertEqual([server.dialling for server in pool.servers], [2, 2])

    def test_a_new_connection_before_an_old_one_of_a_busier_server(self) -> None:
        pool = self.pool(2)
        waiters = self.served(pool, 3)  # 0, 1, 0
        waiters[2].end()
        waiter = self.take(pool)  # one each: 0 has an idle connection
        self.assertIs(waiter.connection, waiters[2].connection)
        assert waiters[1].connection is not None
        waiters[1].connection.abort()
        self.take(pool)
        self.assertEqual(self.dials[0][1].upstream.host, "10.0.0.1")

    def test_at_the_limit_an_idle_one_of_a_busier_server(self) -> None:
        pool = self.pool(2, connections=3)
        waiters = self.served(pool, 3)
        waiters[0].end()
        waiters[1].end()
        waiters[1] = self.take(pool)
        waiter = self.take(pool)
        self.assertIs(waiter.connection, waiters[0].connection)

    def test_backoff(self) -> None:
        pool = self.pool(2)
        first = self.take(pool)
        self.refused()
        self.dialled()
        second = self.take(pool)
        self.dialled()
        self.assertEqual(self.names([first, second]), ["1", "1"])  # 0 has fewer, but failed
        self.advance(BACKOFF + RESOLUTION)
        third = self.take(pool)
        self.dialled()
        self.assertEqual(self.names([third]), ["0"])

    def test_backoff_doubles_to_a_bound_and_ends(self) -> None:
        pool = self.pool(2)
        server = pool.servers[0]
        lengths = []
        for _ in range(8):
            self.take(pool)
            self.refused()
            lengths.append(server.failed_until - self.deadlines.now())
            self.dialled()
            for connection in list(pool.servers[1].connections):
                connection.abort()
            self.advance(BACKOFF_MOST + 1)
        self.assertEqual(lengths, [1, 2, 4, 8, 16, 16, 16, 16])
        self.take(pool)
        self.dialled()
        self.assertEqual((server.failures, server.failed_until), (0, 0))


class DownTests(PoolTests):
    """What checks say of servers decides their order, and nothing else."""

    def hosts(self) -> list[str]:
        """The last digit of each server that is dialled."""
        return [server.upstream.host[-1] for _, server in self.dials]

    def test_others_are_asked(self) -> None:
        pool = self.pool(3)
        pool.mark(pool.servers[1], down=True)
        for _ in range(4):
            self.take(pool)
        self.assertEqual(self.hosts(), list("0202"))

    def test_all_down(self) -> None:
        """As if all were up: one that still starts says so itself."""
        pool = self.pool(2)
        for server in pool.servers:
            pool.mark(server, down=True)
        waiters = [self.take(pool), self.take(pool)]
        self.assertEqual(self.hosts(), list("01"))
        self.dialled()
        self.assertIsNotNone(waiters[0].connection)

    def test_the_only_one(self) -> None:
        pool = self.pool()
        [connection] = self.idle(pool)
        pool.mark(pool.servers[0], down=True)
        self.assert_idle(pool, connection)
        self.assertIs(self.take(pool).connection, connection)

    def test_one_that_is_down_is_the_last_resort(self) -> None:
        pool = self.pool(2)
        pool.mark(pool.servers[0], down=True)
        waiter = self.take(pool)
        self.assertEqual(self.hosts(), ["1"])
        self.refused()
        self.assertEqual(self.hosts(), ["0"])
        self.dialled()
        self.assertIsNotNone(waiter.connection)

    def test_idle_connections(self) -> None:
        """Where there is another server they are closed; those in use are not."""
        pool = self.pool(2)
        waiters = [self.take(pool) for _ in range(4)]
        while self.dials:
            self.dialled()
        for waiter in waiters[2:]:
            waiter.end()
        busy, idle = (self.transport(waiter.connection) for waiter in (waiters[0], waiters[2]))  # type: ignore[arg-type]
        pool.mark(pool.servers[0], down=True)
        self.assertEqual((busy.ended, idle.ended), ("", "lose"))
        self.assertEqual((pool.servers[0].idle, len(pool.servers[1].idle)), ([], 1))
        waiters[0].end()
        self.assertTrue(waiters[0].over)

    def test_an_idle_one_of_it_only_without_another(self) -> None:
        pool = self.pool(2)
        waiters = [self.take(pool), self.take(pool)]
        self.dialled()
        self.dialled()
        pool.mark(pool.servers[0], down=True)
        waiters[0].end()  # 0 has an idle connection now
        self.take(pool)
        self.assertEqual(self.hosts(), ["1"])

    def test_up_again(self) -> None:
        pool = self.pool(2)
        self.take(pool)
        self.refused()
        pool.mark(pool.servers[0], down=True)
        pool.mark(pool.servers[0], down=False)
        self.take(pool)  # its backoff is over, too
        self.assertEqual(self.hosts(), ["1", "0"])

    def test_up_again_for_those_who_wait(self) -> None:
        """A slow dial is not waited for any longer when a server is found to be back."""
        pool = self.pool(2)
        waiter = self.take(pool)
        self.advance(SLOW_DIAL)
        self.refused(1)
        self.assertEqual(self.hosts(), ["0"])
        pool.mark(pool.servers[1], down=False)
        self.assertEqual(self.hosts(), ["0", "1"])
        self.dialled(1)
        self.assertIsNotNone(waiter.connection)


class CloseTests(PoolTests):
    def test_everything_ends(self) -> None:
        pool = self.pool(connections=2)
        [busy] = self.served(pool)
        [connection] = self.idle(pool)
        waiter = self.take(pool)
        self.assertIs(waiter.connection, connection)
        waiter.end()
        pool.close()
        self.assertEqual(self.transport(connection).ended, "lose")
        assert busy.connection is not None
        self.assertEqual(self.transport(busy.connection).ended, "")
        busy.end()
        self.assertTrue(busy.over)
        self.assertEqual(self.transport(busy.connection).ended, "lose")
        self.assertEqual((pool.open, len(self.deadlines)), (0, 0))

    def test_who_waits_hears_it_and_dials_are_given_up(self) -> None:
        pool = self.pool()
        waiter = self.take(pool)
        pool.close()
        self.assertIsInstance(waiter.error, NoCapacity)
        self.assertEqual((self.cancelled, pool.open, pool.waiting), (1, 0, 0))

    def test_a_dial_that_succeeds_all_the_same(self) -> None:
        pool = self.pool()
        self.take(pool)
        dialling, server = self.dials.pop()
        pool._dials.under_way.clear()
        pool.close()
        self.dials.append((dialling, server))
        connection = self.dialled()
        self.assertEqual(self.transport(connection).ended, "lose")
        self.assertEqual(pool.open, 0)


class RetireTests(PoolTests):
    """Other settings have another pool; who is in this one is served."""

    def test_idle_ones_close_and_busy_ones_when_they_come_back(self) -> None:
        pool = self.pool()
        busy, other = self.served(pool, 2)
        other.end()
        assert other.connection is not None
        assert busy.connection is not None
        pool.retire()
        self.assertEqual(self.transport(other.connection).ended, "lose")
        self.assertEqual(self.transport(busy.connection).ended, "")
        busy.end()
        self.assertTrue(busy.over)
        self.assertEqual(self.transport(busy.connection).ended, "lose")
        self.assertEqual(pool.open, 0)
        self.assertEqual(len(self.deadlines), 0)

    def test_who_waits_is_served_and_the_wait_has_its_end(self) -> None:
        pool = self.pool(connections=1)
        [busy] = self.served(pool)
        first, second = self.take(pool), self.take(pool)
        pool.retire()
        busy.end()
        self.assertIs(first.connection, busy.connection)
        self.advance(PoolSettings().wait + RESOLUTION)
        self.assertIsInstance(second.error, NoCapacity)

    def test_who_comes_late(self) -> None:
        """A request whose content was collected meanwhile takes a connection of its own."""
        pool = self.pool()
        pool.retire()
        waiter = self.take(pool)
        connection = self.dialled()
        self.assertIs(waiter.connection, connection)
        waiter.end()
        self.assertEqual(self.transport(connection).ended, "lose")
        self.assertEqual((pool.open, len(self.deadlines)), (0, 0))
