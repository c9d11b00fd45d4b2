"""HTTP/1 connections of clients, as conversations through a whole proxy on fake transports."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from authproxy.downstream import http1
from authproxy.downstream.pace import AT_ONCE
from authproxy.settings import Limits, Settings, Timeouts
from authproxy.wire.requests import parse_request

from ..world import OK, World, fields_of, get, say


class _Tests(SynchronousTestCase):
    def world(self, **limits: int) -> World:
        settings = Settings()
        if limits:
            settings = evolve(settings, limits=evolve(Limits(), **limits))
        return World(settings)


class RequestTests(_Tests):
    def test_one_request(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        [origin] = world.origins
        self.assertTrue(origin.take().startswith(b"GET / HTTP/1.1\r\n"))
        say(origin, OK)
        answer = client.take()
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertTrue(answer.endswith(b"\r\n\r\nhello"))
        self.assertNotIn(b"connection", dict(fields_of(answer)))
        self.assertEqual(world.access.statuses, [200])
        self.assertTrue(world.opening.is_proven)

    def test_byte_by_byte(self) -> None:
        world = self.world()
        client = world.client()
        for byte in get(b"/", b"Content-Length: 3", method=b"POST") + b"abc":
            say(client, bytes([byte]))
        [origin] = world.origins
        self.assertTrue(origin.take().endswith(b"\r\n\r\nabc"))
        for byte in OK:
            say(origin, bytes([byte]))
        self.assertTrue(client.take().endswith(b"\r\n\r\nhello"))

    def test_a_head_that_drips_is_not_read_from_its_start_each_time(self) -> None:
        given = 0

        def parse(data: bytes, *arguments: Any) -> Any:
            nonlocal given
            given += len(data)
            return parse_request(data, *arguments)

        self.patch(http1, "parse_request", parse)
        world = self.world()
        client = world.client()
        head = get(b"/", b"X: " + b"y" * 5000)
        for octet in head:
            say(client, bytes([octet]))
        self.assertTrue(world.origins[0].take().startswith(b"GET / "))
        self.assertLess(given, 2 * len(head))

    def test_a_head_that_drips_is_refused_early(self) -> None:
        for beginning, status in (
            (b"GET / HTTP/1.1\r\nA: b\n", b"400"),
            (b"GET / HTTP/2.0\r\n", b"505"),
            (b"A" * 33, b"501"),
            (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101, b"431"),
        ):
            client = self.world().client()
            for octet in beginning[:-1]:
                say(client, bytes([octet]))
            self.assertEqual(client.take(), b"")
            say(client, beginning[-1:])
            self.assertEqual(client.take()[9:12], status)

    def test_the_next_request_reuses_both_connections(self) -> None:
        world = self.world()
        client = world.client()
        for _ in range(3):
            say(client, get())
            say(world.origins[0], OK)
        self.assertEqual(len(world.origins), 1)
        self.assertEqual(world.access.statuses, [200] * 3)
        self.assertEqual(client.ended, "")

    def test_pipelined_requests_go_one_at_a_time_and_in_order(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get(b"/1") + get(b"/2") + get(b"/3")[:20])
        [origin] = world.origins
        self.assertEqual(origin.take().count(b"HTTP/1.1\r\n"), 1)
        say(origin, OK.replace(b"hello", b"first"))
        self.assertTrue(origin.take().startswith(b"GET /2 "))
        say(origin, OK)
        answer = client.take()
        self.assertTrue(answer.index(b"first") < answer.index(b"hello"))
        say(client, get(b"/3")[20:])
        self.assertTrue(origin.take().startswith(b"GET /3 "))

    def test_pipelined_bytes_are_bounded(self) -> None:
        world = self.world(pipelined_bytes=1000)
        client = world.client()
        say(client, get())
        say(client, b"x" * 1001)
        self.assertTrue(client.paused)
        say(world.origins[0], OK)
        self.assertFalse(client.paused)

    def test_input_is_bounded_while_the_client_does_not_read(self) -> None:
        """Nothing runs for it, and what it sends is not taken either."""
        world = self.world(pipelined_bytes=1000)
        client = world.client()
        say(client, get())
        [origin] = world.origins
        client.protocol.pauseProducing()
        say(origin, OK)
        origin.take()
        say(client, get(b"/2", b"X: " + b"y" * 1000))
        self.assertTrue(client.paused)
        self.assertEqual(origin.take(), b"")
        client.protocol.resumeProducing()
        self.assertFalse(client.paused)
        self.assertTrue(origin.take().startswith(b"GET /2 "))

    def test_many_pipelined_answers_do_not_recurse(self) -> None:
        world = World(Settings())
        client = world.client(secure=False)  # plain HTTP is redirected: an answer made here
        say(client, get() * 900)
        world.clock.advance(0)
        self.assertEqual(client.take().count(b"HTTP/1.1 301"), 900)

    def test_answers_made_here_are_so_many_a_turn(self) -> None:
        """Others have theirs; what comes meanwhile is held, and bounded."""
        world = self.world(pipelined_bytes=1000)
        client = world.client()
        say(client, get(b"*", method=b"OPTIONS") * (10 * AT_ONCE + 1) + get(b"/last"))
        self.assertEqual(world.access.statuses, [204] * AT_ONCE)
        say(client, b"")
        self.assertEqual(world.access.statuses, [204] * AT_ONCE)
        say(client, get(b"/more"))
        self.assertTrue(client.paused)
        world.clock.advance(0)
        self.assertEqual(world.access.statuses, [204] * (10 * AT_ONCE + 1))
        self.assertFalse(client.paused)
        world.origins[0].take()
        say(world.origins[0], OK)
        self.assertTrue(world.origins[0].take().startswith(b"GET /more "))

    def test_the_end_before_the_turn(self) -> None:
        """The client's, and that of a drain, which answers one more."""
        for drains in (False, True):
            world = self.world()
            client = world.client()
            say(client, get(b"*", method=b"OPTIONS") * (2 * AT_ONCE))
            world.gateway.draining = drains
            client.protocol.drain() if drains else client.finish()
            world.clock.advance(0)
            self.assertEqual(len(world.access.statuses), AT_ONCE + drains)
            self.assertEqual(world.gateway.exchanges, 0)

    def test_no_pipelined_request_while_the_client_does_not_read(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get(b"/1") + get(b"/2"))
        [origin] = world.origins
        origin.take()
        client.protocol.pauseProducing()
        say(origin, OK)
        self.assertEqual(origin.take(), b"")
        client.protocol.resumeProducing()
        self.assertTrue(origin.take().startswith(b"GET /2 "))


class PersistenceTests(_Tests):
    def end_of(self, request: bytes, response: bytes = OK) -> tuple[str, bytes]:
        world = self.world()
        client = world.client()
        say(client, request)
        say(world.origins[0], response)
        return client.ended, dict(fields_of(client.take())).get(b"connection", b"")

    def test_table(self) -> None:
        old = get().replace(b"HTTP/1.1", b"HTTP/1.0")
        until_close = b"HTTP/1.1 200 OK\r\n\r\nhello"
        for request, expected in (
            (get(), ("", b"")),
            (get(b"/", b"Connection: close"), ("lose", b"close")),
            (old, ("lose", b"close")),
            (old[:-2] + b"Connection: keep-alive\r\n\r\n", ("", b"keep-alive")),
        ):
            self.assertEqual(self.end_of(request), expected, request)
        _, connection = self.end_of(old[:-2] + b"Connection: keep-alive\r\n\r\n", until_close)
        self.assertEqual(connection, b"close")

    def test_requests_per_connection(self) -> None:
        world = self.world(requests_per_connection=2)
        client = world.client()
        for expected in ("", "lose"):
            say(client, get())
            say(world.origins[0], OK)
            self.assertEqual(client.ended, expected)

    def test_old_connection(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        say(world.origins[0], OK)
        for _ in range(60):
            world.advance(61)
            if client.ended:
                break
            say(client, get())
            say(world.origins[-1], OK)
        self.assertEqual(client.ended, "lose")
        self.assertIn(
            (b"connection", b"close"), fields_of(client.take().rpartition(b"hello" + b"HTTP")[2])
        )

    def test_drain(self) -> None:
        world = self.world()
        idle, busy = world.client(), world.client()
        for client in (idle, busy):
            say(client, get())
        say(world.origins[0], OK)
        world.gateway.draining = True
        for client in (idle, busy):
            client.protocol.drain()
        self.assertEqual((idle.ended, busy.ended), ("lose", ""))
        say(world.origins[1], OK)
        self.assertIn((b"connection", b"close"), fields_of(busy.take()))
        self.assertEqual(busy.ended, "lose")

    def test_drain_is_not_held_up_by_a_connection_that_says_nothing(self) -> None:
        """It was in its TLS handshake when the drain began."""
        world = self.world()
        world.gateway.draining = True
        client = world.client()
        world.advance(3)
        self.assertEqual(client.ended, "lose")


class OldClientTests(_Tests):
    def test_unknown_length_ends_with_the_connection(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get(b"/", b"Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"))
        say(
            world.origins[0],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        )
        answer = client.take()
        self.assertNotIn(b"transfer-encoding", dict(fields_of(answer)))
        self.assertTrue(answer.endswith(b"\r\n\r\nhello"))
        self.assertEqual(client.ended, "lose")

    def test_no_informational_response(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get().replace(b"HTTP/1.1", b"HTTP/1.0"))
        say(world.origins[0], b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
        self.assertTrue(client.take().startswith(b"HTTP/1.1 200"))


class RefusalTests(_Tests):
    def test_what_is_no_http(self) -> None:
        for bad, status in (
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (get(b"/", b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400),
            (get(b"/", b"X: " + b"y" * 70000), 431),
            (b"GET /" + b"x" * 40000, 414),
            (get(method=b"TRACE"), 405),
            (get(b"/", b"Expect: coffee"), 417),
        ):
            world = self.world()
            client = world.client()
            say(client, bad)
            answer = client.take()
            self.assertEqual(int(answer[9:12]), status)
            self.assertEqual(world.origins, [], bad)
            self.assertEqual(client.ended, "half")  # lingers: more of it may be on its way
            self.assertEqual(world.access.statuses, [status])

    def test_bad_content_of_a_request_that_upstream_has(self) -> None:
        world = self.world(body_collect=4)
        client = world.client()
        say(client, get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"5\r\nhello\r\n")
        [origin] = world.origins
        say(client, b"zz\r\n")
        self.assertEqual(origin.ended, "abort")
        self.assertEqual(int(client.take()[9:12]), 400)
        self.assertEqual(world.access.statuses, [400])

    def test_lingering_discards_and_ends(self) -> None:
        world = self.world(linger_bytes=1000)
        client = world.client()
        say(client, b"\0")
        self.assertEqual(client.ended, "half")
        client.ended = ""
        say(client, get() * 3)
        self.assertEqual((world.origins, client.ended), ([], ""))
        say(client, b"x" * 1000)
        self.assertEqual(client.ended, "lose")

    def test_lingering_ends_by_time(self) -> None:
        world = self.world()
        client = world.client()
        say(client, b"\0")
        client.ended = ""
        world.advance(3)
        self.assertEqual(client.ended, "lose")

    def test_body_limit_by_length_and_by_count(self) -> None:
        for request in (
            get(b"/", b"Content-Length: 11", method=b"POST"),
            get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"b\r\nhello world\r\n",
        ):
            world = self.world(body_bytes=10)
            client = world.client()
            say(client, request)
            self.assertEqual(int(client.take()[9:12]), 413)
            self.assertEqual(world.origins, [])


class DeadlineTests(_Tests):
    def test_head_is_absolute(self) -> None:
        """Drips do not move it."""
        world = self.world()
        client = world.client()
        for byte in get()[:14]:
            say(client, bytes([byte]))
            world.advance(1)
        self.assertEqual(client.take(), b"")
        world.advance(2)
        self.assertEqual(int(client.take()[9:12]), 408)

    def test_nothing_at_all(self) -> None:
        world = self.world()
        client = world.client()
        world.advance(16)
        self.assertEqual((client.take(), client.ended), (b"", "lose"))

    def test_keepalive(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        say(world.origins[0], OK)
        client.take()
        world.advance(74)
        self.assertEqual(client.ended, "")
        world.advance(2)
        self.assertEqual((client.take(), client.ended), (b"", "lose"))

    def test_head_of_a_later_request(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        say(world.origins[0], OK)
        client.take()
        world.advance(60)
        say(client, b"GET")
        world.advance(14)
        self.assertEqual(client.take(), b"")
        world.advance(2)
        self.assertEqual(int(client.take()[9:12]), 408)

    def test_body_idle(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get(b"/", b"Content-Length: 10", method=b"POST") + b"abc")
        world.advance(31)
        self.assertEqual(int(client.take()[9:12]), 408)
        self.assertEqual(client.ended, "half")

    def test_body_rate(self) -> None:
        """A byte now and then keeps no connection open."""
        world = self.world()
        client = world.client()
        say(client, get(b"/", b"Content-Length: 100000", method=b"POST"))
        for _ in range(30):
            world.advance(1)
            if client.ended:
                break
            say(client, b"x" * 100)
        self.assertEqual(int(client.take()[9:12]), 408)

    def test_no_deadline_while_upstream_works(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        world.advance(55)
        say(world.origins[0], OK)
        self.assertTrue(client.take().endswith(b"hello"))

    def test_a_client_that_does_not_read(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        [origin] = world.origins
        say(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100000)
        client.buffered = 100000
        client.protocol.pauseProducing()
        self.assertTrue(origin.paused)
        world.advance(62)
        self.assertEqual((client.ended, origin.ended), ("abort", "abort"))
        self.assertEqual(len(world.access.lines), 1)

    def test_a_client_that_does_not_read_while_upstream_does_not_either(self) -> None:
        """Upstream answers before it has read the request, and then waits for its answer to be
        taken. What upstream says of the request does not change until when the client may wait."""
        takes, says = "pauseProducing", "resumeProducing"
        for later in ((takes,), (takes, says), (takes, says, takes)):
            world = self.world(body_collect=10)
            client = world.client()
            say(client, get(b"/", b"Content-Length: 1000000", method=b"POST") + b"x" * 20)
            [origin] = world.origins
            say(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100000)
            client.buffered = 100000
            client.protocol.pauseProducing()
            world.advance(50)
            for word in later:
                getattr(origin.protocol, word)()
            world.advance(12)
            self.assertEqual((client.ended, origin.ended), ("abort", "abort"), later)
            self.assertEqual(world.gateway.exchanges, 0)

    def test_a_client_that_reads_slowly_but_enough(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        say(world.origins[0], b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100000)
        client.buffered = 100000
        client.protocol.pauseProducing()
        world.advance(59)
        client.buffered = 60000
        world.advance(10)
        self.assertEqual(client.ended, "")
        world.advance(60)
        self.assertEqual(client.ended, "abort")

    def test_keepalive_does_not_cut_who_still_reads(self) -> None:
        world = World(evolve(Settings(), timeouts=evolve(Timeouts(), keepalive=5)))
        client = world.client()
        say(client, get())
        client.buffered = 100000
        client.protocol.pauseProducing()
        say(world.origins[0], OK)
        world.advance(58)
        self.assertEqual(client.ended, "")
        world.advance(4)
        self.assertEqual(client.ended, "abort")

    def test_a_head_that_began_before_the_client_stopped_reading(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get() + b"GET / HT")
        say(world.origins[0], OK)
        client.protocol.pauseProducing()  # the transport says so at the end of a batch of events
        client.protocol.resumeProducing()
        client.take()
        world.advance(16)
        self.assertEqual(int(client.take()[9:12]), 408)


class BackpressureTests(_Tests):
    def test_response(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        [origin] = world.origins
        say(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        client.protocol.pauseProducing()
        self.assertTrue(origin.paused)
        client.protocol.resumeProducing()
        self.assertFalse(origin.paused)

    def test_request(self) -> None:
        world = self.world(body_collect=10)
        client = world.client()
        say(client, get(b"/", b"Content-Length: 100", method=b"POST") + b"x" * 20)
        [origin] = world.origins
        origin.protocol.pauseProducing()
        self.assertTrue(client.paused)
        origin.protocol.resumeProducing()
        self.assertFalse(client.paused)

    def test_a_connection_comes_back_reading(self) -> None:
        """A response that ended while the client was paused leaves no paused connection behind."""
        world = self.world()
        client = world.client()
        say(client, get())
        [origin] = world.origins
        say(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        client.protocol.pauseProducing()
        say(origin, b"defghij")
        client.protocol.resumeProducing()
        self.assertFalse(origin.paused)
        say(client, get())
        self.assertEqual(len(world.origins), 1)

    def test_collecting_stops_reading_until_there_is_a_connection(self) -> None:
        world = self.world(body_collect=10)
        world.dial_by_hand = True
        client = world.client()
        say(client, get(b"/", b"Content-Length: 100", method=b"POST") + b"x" * 10)
        self.assertTrue(client.paused)
        world.dialled()
        self.assertFalse(client.paused)


class ClientGoneTests(_Tests):
    def test_upstream_is_no_longer_asked(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        client.finish()
        self.assertEqual(world.origins[0].ended, "abort")
        self.assertEqual(world.access.statuses, [499])

    def test_while_waiting_for_a_connection(self) -> None:
        world = self.world()
        world.dial_by_hand = True
        client = world.client()
        say(client, get())
        client.finish()
        self.assertEqual(world.pool.waiting, 0)
        world.dialled()
        self.assertEqual(world.origins[0].take(), b"")
        self.assertEqual(world.access.statuses, [499])
