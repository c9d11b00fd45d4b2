"""Who waits for a connection, in which order, and for how long: against a list that is sorted."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from authproxy.deadlines import NEVER
from authproxy.settings import PoolSettings, Settings
from authproxy.upstream.queue import Queue, Waiting

from ..examples import EXAMPLES
from ..http2_client import Client, request
from ..transports import FakeTransport
from ..world import OK, World, get, say
from .pools import PoolTests, Waiter

WAIT = 5.0
EVERY = 3.0
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["whole", "whole", "upload", "upload", "next", "one", "forget", "displaced", "completed",
             "share", "overdue"]
        ),
        st.integers(0, 9),
    ),
    max_size=40,
)  # fmt: skip


class QueueTests(SynchronousTestCase):
    """`came` has who waits, in the order in which they came; each came a second after another."""

    def setUp(self) -> None:
        self.now = 0.0
        self.queue = Queue(EVERY, self.now)
        self.share_at = EVERY
        self.came: list[Waiting] = []

    def expected(self) -> list[Waiting]:
        return sorted(self.came, key=lambda entry: not entry.whole)

    def chosen(self, number: int, whole: bool | None = None) -> Waiting | None:
        some = [entry for entry in self.came if whole is None or entry.whole is whole]
        return some[number % len(some)] if some else None

    def add(self, whole: bool) -> None:
        entry = Waiting(Waiter(whole), self.now + WAIT, False, 0, whole)
        self.came.append(entry)
        self.queue.add(entry)

    def next(self, _: int) -> None:
        if self.came:
            entry = self.queue.popleft()
            self.assertEqual(entry, self.expected()[0])
            self.came.remove(entry)

    def one(self, number: int) -> None:
        if entry := self.chosen(number):
            self.queue.remove(entry)
            self.came.remove(entry)

    def forget(self, number: int) -> None:
        if entry := self.chosen(number):
            self.queue.forget(entry.waiter)
            self.came.remove(entry)
            self.queue.forget(entry.waiter)  # once more: nothing

    def displaced(self, _: int) -> None:
        uploads = [entry for entry in self.came if not entry.whole]
        last = self.queue.displaced()
        self.assertIs(last, uploads[-1].waiter if uploads else None)
        if uploads:
            self.came.remove(uploads[-1])

    def completed(self, number: int) -> None:
        if entry := self.chosen(number, whole=False):
            self.queue.completed(entry.waiter)
            self.came[self.came.index(entry)] = entry._replace(whole=True)

    def share(self, _: int) -> None:
        self.queue.share(self.now)
        entry = self.chosen(0, whole=False)
        if self.now >= self.share_at and entry and self.queue.whole:
            self.share_at = self.now + EVERY
            self.came[self.came.index(entry)] = entry._replace(whole=True)

    def overdue(self, _: int) -> None:
        over = [entry for entry in self.expected() if entry.until <= self.now]
        self.assertEqual(self.queue.overdue(self.now), [entry.waiter for entry in over])
        self.came = [entry for entry in self.came if entry not in over]

    @settings(EXAMPLES, max_examples=300)
    @given(STEPS)
    def test_as_a_sorted_list(self, steps: list[tuple[str, int]]) -> None:
        self.setUp()
        for step, number in steps:
            self.now += 1
            if step in ("whole", "upload"):
                self.add(step == "whole")
            else:
                getattr(self, step)(number)
            self.assertEqual(list(self.queue), self.expected())
            self.assertEqual(self.queue.whole, sum(entry.whole for entry in self.came))
            first = min((entry.until for entry in self.came), default=NEVER)
            self.assertEqual(self.queue.until, first)


class ShareTests(PoolTests):
    def test_uploads_while_whole_requests_never_end(self) -> None:
        """They have an eighth of the connections: as many are given to them in the time after
        which they may have to give way."""
        pool = self.pool(connections=16, wait=60)
        busy = self.served(pool, 16)
        uploads = [Waiter(False) for _ in range(20)]
        for upload in uploads:
            pool.take(upload)
        for _ in range(12):
            busy.append(self.take(pool))
            self.advance(0.5)
            busy.pop(0).end()
        self.assertEqual(
            [upload.connection is not None for upload in uploads[:5]], [True] * 4 + [False]
        )
        self.assertEqual(pool.waiting, 20)


class UploadTests(SynchronousTestCase):
    """Uploads that wait for the only connection, as whole exchanges."""

    def setUp(self) -> None:
        self.world = World(evolve(Settings(), pool=PoolSettings(connections=1, waiting=200)))
        self.ask(get())
        [self.origin] = self.world.origins

    def ask(self, *segments: bytes) -> FakeTransport:
        client = self.world.client()
        for segment in segments:
            say(client, segment)
        return client

    def upload(self, *segments: bytes) -> FakeTransport:
        return self.ask(
            get(b"/", b"Content-Length: 1", b"Expect: 100-continue", method=b"POST"), *segments
        )

    def test_one_that_is_whole_by_now(self) -> None:
        """A client that waits for its 100 does so for a second: then it is like any other."""
        first = self.upload()
        before, after = self.ask(get()), self.upload()
        say(first, b"x")
        last = self.ask(get())
        self.origin.take()
        for client in (first, before, last):
            self.assertEqual(client.take(), b"")
            say(self.origin, OK)
        say(self.origin, OK)
        for client in (first, before, last):
            self.assertTrue(client.take().endswith(b"hello"))
        self.assertEqual(after.take(), b"")

    def test_one_whose_end_came_with_what_was_too_much_to_hold(self) -> None:
        size = self.world.settings.limits.body_collect
        head = get(b"/", b"Content-Length: %d" % size, method=b"POST")
        self.ask(head + bytes(size))
        self.assertEqual(self.world.pool._queue.whole, 1)

    def test_over_http2(self) -> None:
        client = Client(self.world)
        client.h2.send_headers(1, request(b"/", (b"expect", b"100-continue"), method=b"POST"))
        client.talk()
        self.assertEqual(self.world.pool._queue.whole, 0)
        client.h2.send_data(1, b"x", end_stream=True)
        client.talk()
        self.assertEqual(self.world.pool._queue.whole, 1)

    def test_none_displaces_another_within_that(self) -> None:
        """One answer would let the connection's next request begin, which displaces, ..."""
        clients = [self.upload(b"x" + get()) for _ in range(200)]
        last = self.ask(get())
        self.assertTrue(last.take().startswith(b"HTTP/1.1 503 "))
        self.assertEqual({client.take() for client in clients}, {b""})
        self.assertEqual(self.world.pool.waiting, 200)
