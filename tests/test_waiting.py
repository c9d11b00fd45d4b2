"""What waits of responses in all connections of HTTP/2 is bounded, and given back."""

from __future__ import annotations

from h2.settings import SettingCodes
from twisted.trial.unittest import SynchronousTestCase

from authproxy import waiting
from authproxy.settings import Settings
from authproxy.waiting import Waiting

from .http2_client import Client, request
from .world import World, say

PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000


class WaitingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(Settings())

    def client(self, window: int) -> Client:
        client = Client(self.world)
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        client.talk()
        return client

    def ask(self, client: Client) -> int:
        """A request that upstream answers with a page."""
        number = client.ask()
        say(self.world.origins[-1], PAGE)
        client.talk()
        return number

    @property
    def octets(self) -> int:
        return self.world.gateway.waiting.octets

    def test_what_is_taken_does_not_wait(self) -> None:
        client = self.client(60_000)
        self.ask(client)
        self.assertEqual((self.octets, client.server.turns.octets), (0, 0))

    def test_counted_until_it_is_taken(self) -> None:
        client = self.client(20_000)
        number = self.ask(client)
        self.assertEqual((self.octets, client.server.turns.octets), (30_000, 30_000))
        client.h2.increment_flow_control_window(40_000, number)
        client.talk()
        self.assertEqual((self.octets, client.server.turns.octets), (0, 0))

    def test_until_it_is_reset(self) -> None:
        client = self.client(0)
        number = self.ask(client)
        self.assertEqual(self.octets, 50_000)
        client.h2.reset_stream(number)
        client.talk()
        self.assertEqual(self.octets, 0)

    def test_until_the_end_of_the_connection(self) -> None:
        client = self.client(10_000)
        self.ask(client)
        client.transport.finish()
        self.assertEqual((self.octets, self.world.gateway.waiting.holders), (0, set()))

    def test_heads_that_unpack(self) -> None:
        """Those of requests that run: HPACK makes 32 kB of a few octets, as often as one likes."""
        client = self.client(60_000)
        fields = request(b"/", *[(b"a", b"x" * 4000)] * 8, method=b"POST")
        numbers = []
        for _ in range(3):
            numbers.append(number := client.h2.get_next_available_stream_id())
            client.h2.send_headers(number, fields)
        client.talk()
        self.assertEqual(self.octets // 3 // 1000, 32)
        client.h2.send_data(numbers[0], b"", end_stream=True)
        client.talk()
        say(self.world.origins[-1], b"HTTP/1.1 204 No Content\r\n\r\n")
        client.h2.reset_stream(numbers[1])
        client.talk()
        self.assertEqual(self.octets // 1000, 32)
        self.patch(waiting, "MOST", 50_000)
        client.h2.send_headers(client.h2.get_next_available_stream_id(), fields)
        client.talk()
        self.world.advance(1)
        self.assertEqual(client.transport.ended, "abort")
        client.transport.finish()
        self.assertEqual((self.octets, self.world.gateway.exchanges), (0, 0))

    def test_large_heads_are_not_kept_for_the_next(self) -> None:
        """By a connection that is idle."""
        client = self.client(60_000)
        client.ask(request(b"/", *[(b"a", b"x" * 4000)] * 8))
        say(self.world.origins[-1], b"HTTP/1.1 204 No Content\r\n\r\n")
        client.talk()
        self.assertIsNone(client.server._head)
        self.assertEqual(self.octets, 0)

    def test_those_with_most_are_ended(self) -> None:
        """Until a fourth is free; nobody, where all of it is there."""
        self.patch(waiting, "MOST", 500_000)
        clients = [self.client(0) for _ in range(4)]
        for client, requests in zip(clients, (1, 5, 1, 3), strict=True):
            for _ in range(requests):
                self.ask(client)
        self.world.advance(1)
        self.assertEqual([client.transport.ended for client in clients], [""] * 4)
        self.ask(clients[0])
        self.world.advance(1)
        self.assertEqual([client.transport.ended for client in clients], ["", "abort", "", ""])
        clients[1].transport.finish()
        self.assertEqual(self.octets, 6 * 50_000)
        self.world.advance(1)
        self.assertEqual([client.transport.ended for client in clients], ["", "abort", "", ""])

    def test_less_by_now(self) -> None:
        all_of_it = Waiting()
        all_of_it.changed(waiting.MOST + 1)
        all_of_it.changed(-10)
        all_of_it.deadline_passed(0.0)
        self.assertEqual(all_of_it.octets, waiting.MOST - 9)
