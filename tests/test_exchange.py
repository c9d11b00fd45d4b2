"""One exchange from the client to upstream and back, as conversations on fake transports."""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from authproxy.errors import ConnectFailed, NotVerified, TimedOut
from authproxy.exchange import PIECES
from authproxy.settings import Limits, PoolSettings, Settings, SiteSettings, Timeouts, Upstream
from authproxy.upstream.responses import MOST_INFORMATIONAL

from .transports import FakeTransport
from .world import OK, World, fields_of, get, say

CHUNKED = b"Transfer-Encoding: chunked"
EXPECT = b"Expect: 100-continue"


def lose(transport: FakeTransport, clean: bool = True) -> None:
    """The peer closes this connection, or it breaks."""
    transport.connected = False
    transport.protocol.connectionLost(Failure(ConnectionDone() if clean else ConnectionLost()))


def status_of(answer: bytes) -> int:
    """The status code of an answer; 0 where there is none."""
    return int(answer[9:12] or 0)


def with_length(length: int, content: bytes = b"", method: bytes = b"POST") -> bytes:
    """A request with Content-Length."""
    return get(b"/", b"Content-Length: %d" % length, method=method) + content


class _Tests(SynchronousTestCase):
    def world(self, **limits: int) -> World:
        return World(evolve(Settings(), limits=evolve(Limits(), **limits)))

    def used(self, world: World) -> tuple[FakeTransport, FakeTransport]:
        """A client, and an upstream connection that carried its first request."""
        client = world.client()
        say(client, get(b"/first"))
        [origin] = world.origins
        say(origin, OK)
        client.take()
        origin.take()
        world.access.lines.clear()
        return client, origin

    def assert_pooled(self, world: World, *origins: FakeTransport) -> None:
        """These upstream connections wait for a request, no others, and nobody has one."""
        [server] = world.pool.servers
        self.assertEqual([connection.transport for connection in server.idle], list(origins))
        self.assertEqual((server.leased, world.pool.open), (0, len(origins)))


class WhoIsOwedTests(_Tests):
    """first_byte runs while everybody waits for upstream, and only then."""

    def test_tiny_pieces_are_joined(self) -> None:
        """What is held of them is no multiple of what came."""
        world = self.world()
        client = world.client()
        say(client, with_length(2000))
        for number in range(1000):
            say(client, b"%02d" % (number % 100))
            exchange = client.protocol.exchange
            if exchange is not None:
                self.assertLessEqual(len(exchange._content), PIECES)
        content = b"".join(b"%02d" % number for number in range(100)) * 10
        self.assertTrue(world.origins[0].take().endswith(content))

    def test_not_while_the_client_sends(self) -> None:
        world = self.world(body_collect=4, body_rate=0)
        client = world.client()
        say(client, with_length(500, b"12345", b"PUT"))
        for _ in range(5):
            world.advance(20)
            say(client, b"x" * 99)
        [origin] = world.origins
        self.assertEqual((client.take(), origin.ended), (b"", ""))
        world.advance(59)
        self.assertEqual(client.take(), b"")
        world.advance(2)
        self.assertEqual(status_of(client.take()), 504)

    def test_while_it_takes_no_more(self) -> None:
        world = self.world(body_collect=4)
        client = world.client()
        say(client, with_length(500, b"12345", b"PUT"))
        world.origins[0].protocol.pauseProducing()
        world.advance(61)
        self.assertEqual(status_of(client.take()), 504)

    def test_while_the_client_waits_for_a_100(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get(b"/", b"Content-Length: 5", b"Expect: 100-continue", method=b"PUT"))
        world.advance(59)
        self.assertEqual(client.take(), b"")
        world.advance(2)
        self.assertEqual(status_of(client.take()), 504)

    def test_a_103_is_not_the_100(self) -> None:
        """Otherwise both sides would wait, and nobody's deadline run."""
        world = self.world()
        client = world.client()
        say(client, get(b"/", b"Content-Length: 5", b"Expect: 100-continue", method=b"PUT"))
        say(world.origins[0], b"HTTP/1.1 103 Early Hints\r\n\r\n")
        self.assertTrue(client.take().startswith(b"HTTP/1.1 103"))
        world.advance(61)
        self.assertEqual(status_of(client.take()), 504)

    def test_the_client_has_its_time_after_the_100(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get(b"/", b"Content-Length: 5", b"Expect: 100-continue", method=b"PUT"))
        world.advance(50)
        say(world.origins[0], b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertTrue(client.take().startswith(b"HTTP/1.1 100"))
        world.advance(29)
        self.assertEqual(client.take(), b"")
        say(client, b"hello")
        say(world.origins[0], OK)
        self.assertEqual(status_of(client.take()), 200)

    def test_a_client_that_says_nothing_after_the_100(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get(b"/", b"Content-Length: 5", b"Expect: 100-continue", method=b"PUT"))
        say(world.origins[0], b"HTTP/1.1 100 Continue\r\n\r\n")
        client.take()
        world.advance(31)
        self.assertEqual(status_of(client.take()), 408)

    def test_backpressure_holds_across_the_lease(self) -> None:
        """What was collected fills upstream's buffer at once: the client stays paused."""
        world = self.world(body_collect=10)
        world.dial_by_hand = True
        client = world.client()
        say(client, with_length(100, b"x" * 20, b"PUT"))
        self.assertTrue(client.paused)
        write = FakeTransport.write

        def full(transport: FakeTransport, data: bytes) -> None:
            write(transport, data)
            transport.protocol.pauseProducing()

        self.patch(FakeTransport, "write", full)
        world.dialled()
        self.assertTrue(client.paused)


class RetryTests(_Tests):
    def test_a_reused_connection_that_gave_no_byte(self) -> None:
        world = self.world()
        client, stale = self.used(world)
        say(client, get(b"/again"))
        lose(stale)
        self.assertEqual(client.take(), b"")
        self.assertEqual(len(world.origins), 2)
        self.assertEqual(world.origins[1].take(), stale.take())
        say(world.origins[1], OK)
        self.assertEqual(status_of(client.take()), 200)
        self.assertEqual(world.access.statuses, [200])
        self.assertEqual(world.site.counts.retries, 1)
        self.assert_pooled(world, world.origins[1])

    def test_a_new_connection_where_there_is_another_server(self) -> None:
        """One that has died cuts new connections, too. What may not be repeated is not."""
        two = tuple(Upstream("http", "tcp", f"10.0.0.{n}", 9000) for n in (1, 2))
        for upstreams, method, again in (
            (two, b"GET", True),
            (two, b"POST", False),
            (two[:1], b"GET", False),
        ):
            world = World(evolve(Settings(), sites=(SiteSettings(upstreams=upstreams),)))
            client = world.client()
            say(client, get(method=method))
            lose(world.origins[0])
            self.assertEqual(len(world.origins), 2 if again else 1)
            if again:
                asked = [origin.protocol.server.upstream for origin in world.origins]
                self.assertEqual(asked, list(two))
                lose(world.origins[1])
                self.assertEqual(len(world.origins), 2)  # once
            self.assertEqual(status_of(client.take()), 502)

    def test_methods(self) -> None:
        for method, again in (
            (b"GET", True),
            (b"HEAD", True),
            (b"OPTIONS", True),
            (b"PUT", True),
            (b"DELETE", True),
            (b"POST", False),
            (b"PATCH", False),
            (b"QUERY", False),
        ):
            world = self.world()
            client, stale = self.used(world)
            say(client, get(method=method))
            self.assertNotEqual(stale.take(), b"")
            lose(stale)
            self.assertEqual(len(world.origins), 2 if again else 1, method)
            self.assertEqual(status_of(client.take()), 0 if again else 502, method)

    def test_a_reset_too(self) -> None:
        world = self.world()
        client, stale = self.used(world)
        say(client, get())
        lose(stale, clean=False)
        self.assertEqual(len(world.origins), 2)

    def test_content_that_is_still_held_goes_again(self) -> None:
        for request in (
            with_length(5, b"hello", b"PUT"),
            get(b"/", CHUNKED, method=b"PUT") + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        ):
            world = self.world()
            client, stale = self.used(world)
            say(client, request)
            sent = stale.take()
            self.assertIn(b"hello", sent)
            lose(stale)
            self.assertEqual(world.origins[1].take(), sent)

    def test_content_that_the_client_has_not_sent_yet(self) -> None:
        """It waits for a 100, which nobody sent."""
        world = self.world()
        client, stale = self.used(world)
        say(client, get(b"/", b"Content-Length: 5", b"Expect: 100-continue", method=b"PUT"))
        sent = stale.take()
        lose(stale)
        self.assertEqual(world.origins[1].take(), sent)
        say(world.origins[1], b"HTTP/1.1 100 Continue\r\n\r\n")
        say(client, b"hello")
        self.assertEqual(world.origins[1].take(), b"hello")

    def test_a_connection_that_was_idle_before_its_first_request(self) -> None:
        """Its waiter left while it was dialled; upstream may have closed it since."""
        world = self.world()
        world.dial_by_hand = True
        gone = world.client()
        say(gone, get())
        gone.finish()
        kept = world.dialled()
        client = world.client()
        say(client, get(b"/first"))
        self.assertNotEqual(kept.take(), b"")
        lose(kept)
        self.assertEqual(client.take(), b"")
        self.assertNotEqual(world.dialled().take(), b"")

    def test_content_that_was_streamed_does_not(self) -> None:
        world = self.world(body_collect=4)
        client, stale = self.used(world)
        say(client, with_length(8, b"12345", b"PUT"))
        say(client, b"678")
        lose(stale)
        self.assertEqual(status_of(client.take()), 502)
        self.assertEqual(len(world.origins), 1)

    def test_content_that_is_not_complete_does_not(self) -> None:
        world = self.world(body_collect=4)
        client, stale = self.used(world)
        say(client, with_length(8, b"12345", b"PUT"))
        lose(stale)
        self.assertEqual(status_of(client.take()), 502)
        self.assertEqual(len(world.origins), 1)

    def test_once(self) -> None:
        world = self.world()
        client, stale = self.used(world)
        other = world.client()
        say(client, get())
        say(other, get())
        say(world.origins[1], OK)  # a second pooled connection, as stale as the first
        lose(stale)
        self.assertEqual(len(world.origins), 3)
        lose(world.origins[2])
        self.assertEqual(status_of(client.take()), 502)
        self.assertEqual(len(world.origins), 3)

    def test_by_setting(self) -> None:
        world = World(evolve(Settings(), pool=evolve(PoolSettings(), retries=0)))
        client, stale = self.used(world)
        say(client, get())
        lose(stale)
        self.assertEqual(status_of(client.take()), 502)

    def test_on_a_new_connection_and_not_on_another_old_one(self) -> None:
        world = self.world()
        client, stale = self.used(world)
        other = world.client()
        say(client, get())
        say(other, get())
        say(world.origins[1], OK)
        world.origins[1].take()
        lose(stale)
        self.assertEqual(world.origins[1].take(), b"")
        self.assertIn(b"GET / ", world.origins[2].take())

    def test_a_later_request_does_not_put_it_on_an_old_one(self) -> None:
        world = self.world()
        client, stale = self.used(world)
        other = world.client()
        say(client, get(b"/lost"))
        say(other, get())
        say(world.origins[1], OK)
        world.origins[1].take()
        world.dial_by_hand = True
        lose(stale)  # the second try waits for its dial
        say(other, get(b"/later"))
        self.assertIn(b"GET /later ", world.origins[1].take())
        self.assertIn(b"GET /lost ", world.dialled().take())

    def test_never_after_one_byte(self) -> None:
        world = self.world()
        client, stale = self.used(world)
        say(client, get())
        say(stale, b"H")
        lose(stale)
        self.assertEqual(status_of(client.take()), 502)
        self.assertEqual(len(world.origins), 1)

    def test_never_after_an_informational_response(self) -> None:
        world = self.world()
        client, stale = self.used(world)
        say(client, get())
        say(stale, b"HTTP/1.1 103 Early Hints\r\n\r\n")
        client.take()
        lose(stale)
        self.assertEqual(status_of(client.take()), 502)
        self.assertEqual(len(world.origins), 1)

    def test_never_on_a_fresh_connection(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        lose(world.origins[0])
        self.assertEqual(status_of(client.take()), 502)
        self.assertEqual(len(world.origins), 1)

    def test_never_after_a_timeout(self) -> None:
        world = self.world()
        client, stale = self.used(world)
        say(client, get())
        world.advance(61)
        self.assertEqual(status_of(client.take()), 504)
        self.assertEqual((stale.ended, len(world.origins)), ("abort", 1))

    def test_a_second_dial_that_fails(self) -> None:
        world = self.world()
        client, stale = self.used(world)
        world.dial_by_hand = True
        say(client, get())
        lose(stale)
        world.dials.pop()[0].errback(ConnectFailed("refused"))
        self.assertEqual(status_of(client.take()), 503)
        self.assertEqual(world.access.statuses, [503])


class FaultTests(_Tests):
    def fault(self, error: Exception, *fields: bytes) -> bytes:
        world = self.world()
        world.dial_by_hand = True
        client = world.client()
        say(client, get(b"/?code=secret", *fields))
        world.dials.pop()[0].errback(error)
        answer = client.take()
        self.assertEqual(client.ended, "")  # the connection goes on
        self.assertEqual(world.access.statuses, [status_of(answer)])
        self.assertNotIn(b"secret", answer)
        return answer

    def test_statuses(self) -> None:
        for error, status, retry_after in (
            (ConnectFailed("refused"), 503, b"5"),
            (NotVerified("another name"), 502, None),
            (TimedOut("no handshake"), 504, None),
        ):
            answer = self.fault(error)
            self.assertEqual(status_of(answer), status)
            self.assertEqual(dict(fields_of(answer)).get(b"retry-after"), retry_after)
            self.assertNotIn(str(error).encode(), answer)  # for the log, not for the world

    def test_an_unknown_error_is_logged_with_its_traceback(self) -> None:
        self.assertEqual(status_of(self.fault(RuntimeError("a bug"))), 502)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_page_by_accept(self) -> None:
        """In the manner of authentik while it starts."""
        for accept, media_type in (
            (b"Accept: application/json", b"application/json"),
            (b"Accept: text/html,*/*;q=0.8", b"text/html; charset=utf-8"),
            (b"Accept: */*", b"text/plain; charset=utf-8"),
        ):
            answer = self.fault(ConnectFailed("refused"), accept)
            fields = dict(fields_of(answer))
            self.assertEqual(fields[b"content-type"], media_type)
            content = answer.partition(b"\r\n\r\n")[2]
            self.assertEqual(int(fields[b"content-length"]), len(content))
            if b"json" in media_type:
                self.assertIn("error", json.loads(content))

    def test_head_gets_no_content(self) -> None:
        world = self.world()
        world.dial_by_hand = True
        client = world.client()
        say(client, get(method=b"HEAD"))
        world.dials.pop()[0].errback(ConnectFailed("refused"))
        answer = client.take()
        self.assertEqual(status_of(answer), 503)
        self.assertTrue(answer.endswith(b"\r\n\r\n"))
        self.assertNotEqual(dict(fields_of(answer))[b"content-length"], b"0")

    def test_request_id_is_in_page_and_log(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get(b"/", b"Accept: application/json"))
        lose(world.origins[0])
        page = json.loads(client.take().partition(b"\r\n\r\n")[2])
        [line] = world.access.lines
        self.assertEqual(line[11], page["request_id"])

    def test_what_upstream_says_is_no_http(self) -> None:
        for bad in (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 140_000,
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 201 + b"\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" * (MOST_INFORMATIONAL + 1),
        ):
            world = self.world()
            client = world.client()
            say(client, get())
            [origin] = world.origins
            say(origin, bad)
            answer = client.take()
            self.assertEqual(status_of(answer.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")), 502)
            self.assertEqual(origin.ended, "abort")
            self.assert_pooled(world)
            self.assertEqual(world.access.statuses, [502])

    def test_silence(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        world.advance(59)
        self.assertEqual(client.take(), b"")
        world.advance(2)
        self.assertEqual(status_of(client.take()), 504)
        self.assertEqual(world.origins[0].ended, "abort")

    def test_a_head_that_drips(self) -> None:
        """timeouts.first_byte runs until the response head is complete."""
        world = self.world()
        client = world.client()
        say(client, get())
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40:
            say(world.origins[0], bytes([byte]))
            world.advance(1)
        self.assertEqual(status_of(client.take()), 504)

    def test_a_body_that_stops(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        say(world.origins[0], b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        world.advance(61)
        self.assertEqual((client.ended, world.origins[0].ended), ("abort", "abort"))
        self.assertEqual(world.access.statuses, [200])

    def test_a_body_that_goes_on(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        say(world.origins[0], b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        for byte in b"slow":
            world.advance(50)
            say(world.origins[0], bytes([byte]))
        self.assertTrue(client.take().endswith(b"slow"))

    def test_authentik_starting_passes(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        say(
            world.origins[0],
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 2\r\n\r\n{}",
        )
        answer = client.take()
        self.assertTrue(answer.endswith(b"{}"))
        self.assertIn((b"retry-after", b"5"), fields_of(answer))
        self.assert_pooled(world, world.origins[0])


class EarlyResponseTests(_Tests):
    REFUSAL = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!"

    def test_passed_on_and_both_sides_end(self) -> None:
        world = self.world(body_collect=10)
        client = world.client()
        say(client, with_length(1000, b"x" * 10))
        [origin] = world.origins
        say(origin, self.REFUSAL)
        answer = client.take()
        self.assertEqual(status_of(answer), 413)
        self.assertTrue(answer.endswith(b"no!"))
        self.assertIn((b"connection", b"close"), fields_of(answer))
        self.assertEqual(origin.ended, "abort")
        self.assert_pooled(world)
        self.assertEqual(client.ended, "half")  # a reset would lose the answer
        self.assertEqual(world.access.statuses, [413])
        say(client, b"x" * 990)  # read and thrown away
        self.assertEqual((client.take(), origin.take()[-10:]), (b"", b"x" * 10))

    def test_answer_that_comes_in_pieces(self) -> None:
        """What the client sends meanwhile still goes to upstream."""
        world = self.world(body_collect=10)
        client = world.client()
        say(client, with_length(1000, b"x" * 10))
        [origin] = world.origins
        origin.take()
        say(origin, self.REFUSAL[:-1])
        say(client, b"more")
        self.assertEqual(origin.take(), b"more")
        say(origin, self.REFUSAL[-1:])
        self.assertEqual((origin.ended, client.ended), ("abort", "half"))

    def test_request_that_ends_before_the_answer_does(self) -> None:
        world = self.world(body_collect=10)
        client = world.client()
        say(client, with_length(20, b"x" * 10))
        [origin] = world.origins
        say(origin, self.REFUSAL[:-1])
        say(client, b"x" * 10)
        say(origin, self.REFUSAL[-1:])
        self.assertTrue(client.take().endswith(b"no!"))
        self.assertEqual(client.ended, "lose")  # it was told so in the head
        self.assert_pooled(world, origin)

    def test_body_that_upstream_has_not_taken(self) -> None:
        world = self.world(body_collect=10)
        client = world.client()
        say(client, with_length(20, b"x" * 20))
        [origin] = world.origins
        origin.buffered = 20  # all is written, not all is sent
        say(origin, self.REFUSAL)
        self.assertEqual(origin.ended, "abort")
        self.assert_pooled(world)

    def test_paused_client_is_read_again(self) -> None:
        world = self.world(body_collect=10)
        client = world.client()
        say(client, with_length(1000, b"x" * 10))
        [origin] = world.origins
        origin.protocol.pauseProducing()
        self.assertTrue(client.paused)
        say(origin, self.REFUSAL)
        self.assertFalse(client.paused)


class TruncationTests(_Tests):
    """A response that was cut short never looks whole."""

    def cut(self, response: bytes, clean: bool = True) -> tuple[FakeTransport, bytes]:
        world = self.world()
        client = world.client()
        say(client, get())
        say(world.origins[0], response)
        lose(world.origins[0], clean)
        self.assert_pooled(world)
        self.assertEqual(world.access.statuses, [200])
        return client, client.take()

    def test_length(self) -> None:
        client, _ = self.cut(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        self.assertEqual(client.ended, "abort")

    def test_chunked(self) -> None:
        for clean in (True, False):
            client, answer = self.cut(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", clean
            )
            self.assertTrue(answer.endswith(b"\r\n3\r\nabc\r\n"))
            self.assertEqual(client.ended, "abort")

    def test_chunked_that_turns_bad(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        say(world.origins[0], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        say(world.origins[0], b"nonsense\r\n")
        self.assertFalse(client.take().endswith(b"0\r\n\r\n"))
        self.assertEqual((client.ended, world.origins[0].ended), ("abort", "abort"))

    def test_until_close(self) -> None:
        client, answer = self.cut(b"HTTP/1.1 200 OK\r\n\r\nabc")
        self.assertTrue(answer.endswith(b"3\r\nabc\r\n0\r\n\r\n"))
        self.assertEqual(client.ended, "")

    def test_until_a_reset(self) -> None:
        client, answer = self.cut(b"HTTP/1.1 200 OK\r\n\r\nabc", clean=False)
        self.assertTrue(answer.endswith(b"3\r\nabc\r\n"))
        self.assertEqual(client.ended, "abort")

    def test_until_close_to_an_old_client(self) -> None:
        for clean, ended in ((True, "lose"), (False, "abort")):
            world = self.world()
            client = world.client()
            say(client, get().replace(b"HTTP/1.1", b"HTTP/1.0"))
            say(world.origins[0], b"HTTP/1.1 200 OK\r\n\r\nabc")
            lose(world.origins[0], clean)
            self.assertTrue(client.take().endswith(b"\r\n\r\nabc"))
            self.assertEqual(client.ended, ended)

    def test_in_the_head(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        say(world.origins[0], b"HTTP/1.1 200 OK\r\nContent-Le")
        lose(world.origins[0])
        self.assertEqual(status_of(client.take()), 502)


class InformationalTests(_Tests):
    def test_passed_on(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        [origin] = world.origins
        say(origin, b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        self.assertEqual(client.take(), b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n")
        say(origin, b"HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n" + OK)
        first, _, last = client.take().partition(b"\r\n\r\n")
        self.assertIn(b"b.css", first)
        self.assertEqual(status_of(last), 200)
        self.assert_pooled(world, origin)
        self.assertEqual(world.access.statuses, [200])

    def test_unasked_100(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        say(world.origins[0], b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
        self.assertTrue(client.take().startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"))


class ExpectTests(_Tests):
    def test_upstreams_own_100(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get(b"/", b"Content-Length: 5", EXPECT, method=b"PUT"))
        [origin] = world.origins  # at once, with nothing collected
        self.assertIn((b"expect", b"100-continue"), fields_of(origin.take().lower()))
        self.assertEqual(client.take(), b"")  # it is never made here
        say(origin, b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertEqual(client.take(), b"HTTP/1.1 100 Continue\r\n\r\n")
        say(client, b"hello")
        self.assertEqual(origin.take(), b"hello")
        say(origin, OK)
        self.assertEqual(status_of(client.take()), 200)
        self.assert_pooled(world, origin)

    def test_refused(self) -> None:
        """The client may send the content or not: its connection cannot go on (RFC 9110 10.1.1)."""
        world = self.world()
        client = world.client()
        say(client, get(b"/", b"Content-Length: 5", EXPECT, method=b"PUT"))
        say(world.origins[0], EarlyResponseTests.REFUSAL)
        self.assertEqual(status_of(client.take()), 413)
        self.assertEqual((client.ended, world.origins[0].ended), ("half", "abort"))

    def test_client_that_does_not_wait(self) -> None:
        world = self.world()
        world.dial_by_hand = True
        client = world.client()
        say(client, get(b"/", b"Content-Length: 5", EXPECT, method=b"PUT") + b"hel")
        self.assertEqual(len(world.dials), 1)
        say(client, b"lo")
        origin = world.dialled()
        self.assertTrue(origin.take().endswith(b"\r\n\r\nhello"))
        say(origin, OK)
        self.assertEqual(status_of(client.take()), 200)

    def test_old_client(self) -> None:
        """HTTP/1.0 knows no 100: the field means nothing, and the content is collected."""
        world = self.world()
        client = world.client()
        request = get(b"/", b"Content-Length: 5", EXPECT, method=b"PUT")
        say(client, request.replace(b"HTTP/1.1", b"HTTP/1.0"))
        self.assertEqual(world.origins, [])
        say(client, b"hello")
        say(world.origins[0], b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
        self.assertTrue(client.take().startswith(b"HTTP/1.1 200 OK"))


class FramingTests(_Tests):
    def response(self, request: bytes, response: bytes) -> tuple[World, bytes]:
        world = self.world()
        client = world.client()
        say(client, request)
        say(world.origins[0], response)
        return world, client.take()

    def test_no_content_whatever_the_length_says(self) -> None:
        for request, response in (
            (get(method=b"HEAD"), b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            (get(), b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ):
            world, answer = self.response(request, response)
            self.assertTrue(answer.endswith(b"\r\n\r\n"))
            self.assertIn((b"content-length", b"5"), fields_of(answer))
            self.assert_pooled(world, world.origins[0])

    def test_204_has_no_length(self) -> None:
        """RFC 9110 8.6; a client could wait for that many octets."""
        response = b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"
        world, answer = self.response(get(), response)
        self.assertNotIn(b"content-length", dict(fields_of(answer)))
        self.assert_pooled(world, world.origins[0])

    def test_head_of_chunked_and_of_unknown_length(self) -> None:
        for field in (CHUNKED + b"\r\n", b""):
            world, answer = self.response(
                get(method=b"HEAD"), b"HTTP/1.1 200 OK\r\n" + field + b"\r\n"
            )
            self.assertTrue(answer.endswith(b"\r\n\r\n"))
            self.assertEqual(answer.count(b"\r\n\r\n"), 1)
            self.assert_pooled(world, world.origins[0])

    def test_request_chunks_are_made_anew(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get(b"/", CHUNKED, method=b"POST"))
        say(client, b"2;ext=1\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
        sent = world.origins[0].take()
        self.assertTrue(sent.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))
        self.assertEqual(fields_of(sent).count((b"transfer-encoding", b"chunked")), 1)
        self.assertNotIn(b"ext", sent)

    def test_response_chunks_are_made_anew(self) -> None:
        _, answer = self.response(
            get(),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2;ext=1\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        )
        self.assertTrue(answer.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))
        self.assertNotIn(b"ext", answer)

    def test_trailers_of_a_request(self) -> None:
        for collect in (1024, 4):
            world = self.world(body_collect=collect)
            client = world.client()
            say(client, get(b"/", CHUNKED, b"Trailer: X-Sum", method=b"POST"))
            say(client, b"5\r\nhello\r\n")
            say(client, b"0\r\nX-Sum: 1\r\nX-Forwarded-For: 10.0.0.1\r\nX_Sum: 2\r\n\r\n")
            sent = world.origins[0].take()
            self.assertTrue(sent.endswith(b"\r\n0\r\nx-sum: 1\r\n\r\n"), sent)

    def test_trailers_of_a_response(self) -> None:
        _, answer = self.response(
            get(),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nConnection: close\r\nSet-Cookie: a=b\r\n\r\n",
        )
        self.assertTrue(answer.endswith(b"\r\n0\r\nx-sum: 1\r\nset-cookie: a=b\r\n\r\n"), answer)

    def test_trailers_that_would_change_the_framing(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get(b"/", CHUNKED, method=b"POST") + b"0\r\nContent-Length: 3\r\n\r\n")
        self.assertEqual((status_of(client.take()), world.origins), (400, []))

    def test_four_mebibytes_keep_their_length(self) -> None:
        world = self.world()
        client = world.client()
        total, piece = 4 << 20, b"x" * 65_000
        say(client, get(b"/", b"Content-Length: %d" % total, method=b"PUT"))
        sent = 0
        while sent < total:
            say(client, piece[: total - sent])
            sent += len(piece[: total - sent])
        [origin] = world.origins
        head, _, content = origin.take().partition(b"\r\n\r\n")
        self.assertIn((b"content-length", b"%d" % total), fields_of(head))
        self.assertNotIn(b"transfer-encoding", head)
        self.assertEqual(len(content), total)

    def test_no_length_where_the_client_gave_none(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get(method=b"DELETE"))
        fields = dict(fields_of(world.origins[0].take()))
        self.assertNotIn(b"content-length", fields)
        self.assertNotIn(b"transfer-encoding", fields)

    def test_a_length_of_nothing_is_kept(self) -> None:
        world = self.world()
        client = world.client()
        say(client, with_length(0))
        self.assertIn((b"content-length", b"0"), fields_of(world.origins[0].take()))

    def test_old_upstream(self) -> None:
        for field, pooled in ((b"", False), (b"Connection: keep-alive\r\n", True)):
            world, answer = self.response(
                get(), b"HTTP/1.0 200 OK\r\n" + field + b"Content-Length: 5\r\n\r\nhello"
            )
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"))
            self.assertNotIn(b"connection", dict(fields_of(answer)))
            self.assert_pooled(world, *world.origins if pooled else ())

    def test_upstream_that_closes(self) -> None:
        world, answer = self.response(get(), OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))
        self.assertNotIn(b"connection", dict(fields_of(answer)))
        self.assert_pooled(world)
        self.assertEqual(world.origins[0].ended, "lose")


class SurplusTests(_Tests):
    """Bytes after a complete response could be an answer to anything."""

    def test_in_the_same_segment(self) -> None:
        for response in (
            OK,
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ):
            world = self.world()
            client = world.client()
            say(client, get())
            say(world.origins[0], response + OK)
            self.assertNotIn(b"hello", client.take().replace(b"hello", b"", 1))
            self.assertEqual(world.origins[0].ended, "abort")
            self.assert_pooled(world)
            say(client, get())
            self.assertEqual(len(world.origins), 2)

    def test_later(self) -> None:
        world = self.world()
        client, origin = self.used(world)
        say(origin, b"x")
        self.assertEqual((client.take(), origin.ended), (b"", "abort"))
        self.assert_pooled(world)

    def test_before_the_request(self) -> None:
        """A connection that speaks first is no HTTP server's."""
        world = self.world()
        world.dial_by_hand = True
        client = world.client()
        say(client, get())
        client.finish()
        origin = world.dialled()
        self.assert_pooled(world, origin)
        say(origin, OK)
        self.assert_pooled(world)


class CollectingTests(_Tests):
    def writes(self, transport: FakeTransport) -> list[bytes]:
        """What this transport is given from here on, write by write."""
        writes: list[bytes] = []
        transport.write = writes.append  # type: ignore[method-assign, assignment]
        return writes

    def test_small_body_goes_up_in_one_write(self) -> None:
        """authentik counts the whole request from its first octet: a slow client may take long."""
        world = self.world()
        client, origin = self.used(world)
        writes = self.writes(origin)
        say(client, get(b"/", b"Content-Length: 6", method=b"POST"))
        say(client, b"abc")
        self.assertEqual(writes, [])
        self.assertEqual(len(world.pool.servers[0].idle), 1)
        say(client, b"def")
        self.assertEqual(len(writes), 1)
        self.assertTrue(writes[0].endswith(b"\r\n\r\nabcdef"))

    def test_small_chunked_body_too(self) -> None:
        world = self.world()
        client, origin = self.used(world)
        writes = self.writes(origin)
        say(client, get(b"/", CHUNKED, method=b"POST") + b"3\r\nabc\r\n")
        say(client, b"3\r\ndef\r\n0\r\n\r\n")
        self.assertEqual(len(writes), 1)
        self.assertTrue(writes[0].endswith(b"\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n"))

    def test_large_body_is_streamed(self) -> None:
        world = self.world(body_collect=10)
        client, origin = self.used(world)
        writes = self.writes(origin)
        say(client, with_length(20, b"123456789"))
        self.assertEqual(writes, [])
        say(client, b"0")
        self.assertTrue(writes.pop().endswith(b"\r\n\r\n1234567890"))
        for piece in (b"abc", b"defghi", b"j"):
            say(client, piece)
            self.assertEqual(writes.pop(), piece)
        say(origin, OK)
        self.assertEqual(status_of(client.take()), 200)

    def test_large_chunked_body_is_streamed(self) -> None:
        world = self.world(body_collect=10)
        client, origin = self.used(world)
        writes = self.writes(origin)
        say(client, get(b"/", CHUNKED, method=b"POST") + b"a\r\n1234567890\r\n")
        self.assertTrue(writes.pop().endswith(b"\r\n\r\na\r\n1234567890\r\n"))
        say(client, b"3\r\nabc\r\n0\r\n\r\n")
        self.assertEqual(b"".join(writes), b"3\r\nabc\r\n0\r\n\r\n")

    def test_default_is_128_kib(self) -> None:
        world = self.world()
        client = world.client()
        say(client, with_length(1 << 20, b"x" * 131_071))
        self.assertEqual(world.origins, [])
        say(client, b"x")
        self.assertEqual(len(world.origins), 1)

    def test_body_that_is_not_http_after_all(self) -> None:
        """Not one byte of it is forwarded."""
        world = self.world()
        client = world.client()
        say(client, get(b"/", CHUNKED, method=b"POST") + b"3\r\nabc\r\n")
        say(client, b"-1\r\n")
        self.assertEqual((status_of(client.take()), world.origins), (400, []))


class ClientGoneTests(_Tests):
    def test_while_its_body_is_collected(self) -> None:
        world = self.world()
        client, origin = self.used(world)
        say(client, with_length(10, b"abc"))
        client.finish()
        self.assertEqual(origin.take(), b"")
        self.assert_pooled(world, origin)
        self.assertEqual(world.access.statuses, [499])

    def test_while_its_body_is_streamed(self) -> None:
        world = self.world(body_collect=10)
        client = world.client()
        say(client, with_length(100, b"x" * 50))
        client.finish()
        self.assertEqual(world.origins[0].ended, "abort")
        self.assert_pooled(world)
        self.assertEqual(world.access.statuses, [499])

    def test_in_the_queue(self) -> None:
        world = World(evolve(Settings(), pool=evolve(PoolSettings(), connections=1)))
        first, second = world.client(), world.client()
        say(first, get())
        say(second, get())
        second.finish()
        self.assertEqual(world.pool.waiting, 0)
        say(world.origins[0], OK)
        self.assertEqual(status_of(first.take()), 200)
        self.assertEqual(world.access.statuses, [499, 200])
        self.assert_pooled(world, world.origins[0])

    def test_while_upstream_works(self) -> None:
        world = self.world()
        client, origin = self.used(world)
        say(client, get())
        client.finish()
        self.assertEqual(origin.ended, "abort")
        self.assert_pooled(world)

    def test_between_an_informational_response_and_the_final_one(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        say(world.origins[0], b"HTTP/1.1 103 Early Hints\r\n\r\n")
        client.finish()
        self.assertEqual(world.origins[0].ended, "abort")
        self.assertEqual(world.access.statuses, [499])

    def test_while_the_response_comes(self) -> None:
        for response in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            b"HTTP/1.1 200 OK\r\n\r\nabc",
        ):
            world = self.world()
            client = world.client()
            say(client, get())
            say(world.origins[0], response)
            client.finish()
            self.assertEqual(world.origins[0].ended, "abort")
            self.assert_pooled(world)
            self.assertEqual(world.access.statuses, [200])

    def test_between_two_tries(self) -> None:
        world = self.world()
        client, stale = self.used(world)
        world.dial_by_hand = True
        say(client, get())
        lose(stale)
        client.finish()
        self.assertEqual(world.pool.waiting, 0)
        origin = world.dialled()
        self.assertEqual(origin.take(), b"")
        self.assert_pooled(world, origin)
        self.assertEqual(world.access.statuses, [499])

    def test_what_upstream_says_after_that_is_nothing(self) -> None:
        world = self.world()
        client, origin = self.used(world)
        say(client, get())
        client.finish()
        say(origin, OK)
        origin.finish()
        self.assert_pooled(world)
        self.assertEqual(world.access.statuses, [499])

    def test_pipelined_request_is_not_begun(self) -> None:
        world = self.world()
        client, origin = self.used(world)
        say(client, get(b"/a") + get(b"/b"))
        client.finish()
        self.assertNotIn(b"/b", origin.take())
        self.assertEqual(len(world.access.lines), 1)


class BackpressureTests(_Tests):
    def test_no_deadline_of_upstream_while_the_client_does_not_read(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        [origin] = world.origins
        say(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        client.buffered = 100_000
        client.protocol.pauseProducing()
        self.assertTrue(origin.paused)
        for _ in range(3):  # the client takes enough to stay
            client.buffered -= 33_000
            world.advance(50)
        self.assertEqual((origin.ended, client.ended), ("", ""))
        client.protocol.resumeProducing()
        self.assertFalse(origin.paused)
        say(origin, b"x" * 97)
        self.assert_pooled(world, origin)

    def test_upstream_that_does_not_take_the_request(self) -> None:
        world = self.world(body_collect=10)
        client = world.client()
        say(client, with_length(100, b"x" * 20))
        [origin] = world.origins
        origin.protocol.pauseProducing()
        self.assertTrue(client.paused)
        world.advance(59)
        self.assertEqual(client.take(), b"")  # the client is not the slow one
        world.advance(2)
        self.assertEqual(status_of(client.take()), 504)
        self.assertEqual(origin.ended, "abort")

    def test_upstream_takes_it_after_all(self) -> None:
        world = self.world(body_collect=10)
        client = world.client()
        say(client, with_length(30, b"x" * 20))
        [origin] = world.origins
        origin.protocol.pauseProducing()
        world.advance(40)
        origin.protocol.resumeProducing()
        self.assertFalse(client.paused)
        say(client, b"x" * 10)
        world.advance(40)
        say(origin, OK)
        self.assertEqual(status_of(client.take()), 200)
        self.assert_pooled(world, origin)

    def test_paused_upstream_connection_that_breaks(self) -> None:
        world = self.world()
        client = world.client()
        say(client, get())
        [origin] = world.origins
        say(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        client.protocol.pauseProducing()
        lose(origin, clean=False)
        self.assertEqual(client.ended, "abort")
        self.assert_pooled(world)

    def test_waiting_for_a_connection_is_bounded(self) -> None:
        """While nothing is leased the client's body is held up to limits.body_collect."""
        world = self.world(body_collect=10)
        world.dial_by_hand = True
        client = world.client()
        say(client, with_length(1000, b"x" * 10))
        self.assertTrue(client.paused)
        world.advance(6)  # pool.wait
        self.assertEqual(status_of(client.take()), 503)
        self.assertFalse(client.paused)  # lingers
        self.assertEqual(client.ended, "half")


class TimeoutSettingTests(_Tests):
    def test_first_byte(self) -> None:
        settings: Any = evolve(Settings(), timeouts=evolve(Timeouts(), first_byte=5))
        world = World(settings)
        client = world.client()
        say(client, get())
        world.advance(6)
        self.assertEqual(status_of(client.take()), 504)
