"""Who gives way when all upstream connections are in use, as conversations of whole exchanges."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from authproxy.settings import PoolSettings, Settings
from authproxy.upstream import pool
from authproxy.upstream.room import LEAST, LOOK, make_room

from ..transports import FakeTransport
from ..world import OK, World, get, say

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000


class RoomTests(SynchronousTestCase):
    def setUp(self) -> None:
        pool = PoolSettings(connections=2, idle=2)
        self.world = World(evolve(Settings(), pool=pool))

    def ask(self, request: bytes) -> FakeTransport:
        client = self.world.client()
        say(client, request)
        return client

    def upload(self) -> FakeTransport:
        """It asked to be told to go on, was told, and does not."""
        client = self.ask(get(b"/", b"Content-Length: 9", b"Expect: 100-continue", method=b"POST"))
        say(self.world.origins[-1], CONTINUE)
        self.assertEqual(client.take(), CONTINUE)
        return client

    def slow_reader(self) -> FakeTransport:
        client = self.ask(get())
        say(self.world.origins[-1], LARGE)
        client.producer.pauseProducing()
        client.take()
        return client

    def served(self, client: FakeTransport) -> bool:
        origin = self.world.origins[-1]
        say(origin, OK)
        return client.take().endswith(b"hello")

    def test_an_upload_that_does_not_go_on(self) -> None:
        """The oldest gives way, when it is old enough, and for who waits alone."""
        first = self.upload()
        self.world.advance(0.5)
        second = self.upload()
        last = self.ask(get())
        self.assertEqual(len(self.world.origins), 2)
        self.world.advance(LEAST)
        self.assertEqual(len(self.world.origins), 3)
        self.assertTrue(first.take().startswith(b"HTTP/1.1 503 "))
        self.assertEqual(self.world.origins[0].ended, "abort")
        self.assertEqual(second.take(), b"")
        self.assertTrue(self.served(last))
        self.world.advance(5)
        self.assertEqual((second.take(), self.world.origins[1].ended), (b"", ""))

    def test_at_once_where_it_is_old(self) -> None:
        self.upload()
        self.slow_reader()
        self.world.advance(LEAST + 0.5)
        self.assertTrue(self.served(self.ask(get())))

    def test_a_response_that_is_not_taken(self) -> None:
        reader = self.slow_reader()
        self.world.advance(0.5)
        self.slow_reader()
        last = self.ask(get())
        self.world.advance(LEAST + 0.5)
        self.assertEqual(reader.ended, "abort")
        self.assertTrue(self.served(last))

    def test_who_moves_is_the_last_to(self) -> None:
        """An old download that goes on does not pay for younger uploads that stand still."""
        reader = self.slow_reader()
        self.world.advance(2)
        upload = self.upload()
        for _ in range(8):
            self.world.advance(0.5)
            reader.producer.resumeProducing()
            say(self.world.origins[0], b"x" * 1000)
            reader.producer.pauseProducing()
        self.assertTrue(self.served(self.ask(get())))
        self.assertTrue(upload.take().startswith(b"HTTP/1.1 503 "))
        self.assertEqual(reader.ended, "")

    def test_who_waits_for_upstream_does_not(self) -> None:
        patient = self.ask(get())
        whole = self.ask(get(b"/", b"Content-Length: 4", method=b"POST") + b"done")
        last = self.ask(get())
        self.world.advance(4)
        self.assertEqual(len(self.world.origins), 2)
        self.assertEqual([client.take() for client in (patient, whole, last)], [b"", b"", b""])
        self.assertEqual(self.world.pool.waiting, 1)

    def test_nobody_while_there_is_room(self) -> None:
        client = self.upload()
        self.assertTrue(self.served(self.ask(get())))
        self.world.advance(10)
        self.assertTrue(self.served(self.ask(get())))
        self.assertEqual(client.take(), b"")

    def test_a_busy_pool(self) -> None:
        """All connections are looked at now and then, not with each request that waits."""
        looked = []

        def look(*asked: Any) -> int:
            looked.append(self.world.clock.seconds())
            return make_room(*asked)

        self.patch(pool, "make_room", look)
        clients = [self.ask(get()) for _ in range(10)]
        for _ in range(20):
            for origin in self.world.origins:
                say(origin, OK)
            for client in clients:
                if client.take():
                    say(client, get())
        self.assertEqual(len(looked), 1)
        self.world.advance(3 * LOOK)
        self.assertEqual(len(looked), 4)

    def test_many_wait(self) -> None:
        """One place for each, without recursion."""
        world = self.world = World(evolve(Settings(), pool=PoolSettings(connections=300)))
        slow = [self.upload() for _ in range(300)]
        world.advance(LEAST)
        waiting = [self.ask(get()) for _ in range(299)]
        world.advance(LEAST)
        self.assertEqual(len(world.origins), 599)
        self.assertEqual(sum(client.take() == b"" for client in slow), 1)
        for origin in world.origins[300:]:
            say(origin, OK)
        self.assertEqual({client.take()[-5:] for client in waiting}, {b"hello"})
        self.assertEqual(world.pool.servers[0].leased, 1)
