"""Whatever happens to a pool: who waits hears of it once, and in time, and the counts are right."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from authproxy.errors import NoCapacity, UpstreamError
from authproxy.upstream.pool import Pool

from ..examples import EXAMPLES
from .pools import PoolTests, Waiter

DEEDS = [
    "whole", "whole", "whole", "upload", "upload", "upload", "again", "fresh", "end", "end", "cut",
    "dialled", "dialled", "refused", "forget", "completed", "mark", "advance", "advance", "retire",
    "close",
]  # fmt: skip
WAIT = 3.0


class Again(Waiter):
    """Who is told that there is none asks for the next request, as a pipelining client."""

    def __init__(self, pool: Pool, made: list[Waiter], whole: bool) -> None:
        super().__init__(whole)
        self.pool = pool
        self.made = made

    def lease_failed(self, error: UpstreamError) -> None:
        super().lease_failed(error)
        if len(self.made) < 60:
            ask(self.pool, self.made, Waiter(whole=True))


def ask(pool: Pool, made: list[Waiter], waiter: Waiter, fresh: bool = False) -> None:
    made.append(waiter)
    try:
        connection = pool.take(waiter, fresh)
    except NoCapacity as e:
        waiter.lease_failed(e)
    else:
        if connection is not None:
            waiter.leased(connection)


class PoolFuzzTests(PoolTests):
    def dial_at(self, number: int) -> int:
        return number % len(self.dials)

    @settings(EXAMPLES, max_examples=300)
    @given(
        st.lists(st.tuples(st.sampled_from(DEEDS), st.integers(0, 9)), max_size=60),
        st.integers(1, 2),
        st.integers(0, 3),
    )
    def test_all_hear_of_it(self, script: list[tuple[str, int]], servers: int, most: int) -> None:
        pool = self.pool(servers, connections=2, waiting=most, wait=WAIT, idle=1)
        made: list[Waiter] = []
        gone: list[Waiter] = []
        for deed, number in script:
            self.act(pool, made, gone, deed, number)
            self.assert_counts(pool)
            if deed == "close":
                break
        self.advance(2 * WAIT + 2)  # some ask once more
        for waiter in made:
            if waiter not in gone:
                self.assertTrue(waiter.connection or waiter.error, script)
        self.assertEqual(pool.waiting, 0)

    def act(
        self, pool: Pool, made: list[Waiter], gone: list[Waiter], deed: str, number: int
    ) -> None:
        busy = [w for w in made if w.connection is not None and w.connection.exchange is w]
        waits = [w for w in made if not w.connection and not w.error and w not in gone]
        if deed in ("whole", "upload"):
            ask(pool, made, Waiter(deed == "whole"))
        elif deed == "again":
            ask(pool, made, Again(pool, made, number % 2 == 0))
        elif deed == "fresh":
            ask(pool, made, Waiter(), fresh=True)
        elif deed == "end" and busy:
            busy[number % len(busy)].end()
        elif deed == "cut" and busy:
            connection = busy[number % len(busy)].connection
            assert connection is not None
            connection.abort()
        elif deed == "dialled" and self.dials:
            self.dialled(self.dial_at(number))
        elif deed == "refused" and self.dials:
            self.refused(self.dial_at(number))
        elif deed == "forget" and waits:
            gone.append(waits[number % len(waits)])
            pool.forget_waiter(gone[-1])
        elif deed == "completed" and waits:
            pool.waiter_completed(waits[number % len(waits)])
        elif deed == "mark":
            pool.mark(pool.servers[number % len(pool.servers)], down=number % 4 > 1)
        elif deed == "advance":
            self.advance(number / 2)
        elif deed == "retire":
            pool.retire()
        elif deed == "close":
            self.dials.clear()
            pool.close()

    def assert_counts(self, pool: Pool) -> None:
        queue = pool._queue
        flags = [entry.whole for entry in queue]
        self.assertEqual(flags, sorted(flags, reverse=True))
        self.assertEqual(queue.whole, sum(flags))
        self.assertLessEqual(pool.open, 2)
        for server in pool.servers:
            self.assertEqual(server.leased, len(server.connections) - len(server.idle))
        self.assertEqual(sum(s.dialling for s in pool.servers), len(pool._dials.under_way))
        self.assertTrue(all(0 <= s.slow <= s.dialling for s in pool.servers))
