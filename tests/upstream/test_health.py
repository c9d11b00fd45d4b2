"""Checks by the clock: when one is made, what its answer means, what is said and what is not."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from authproxy.deadlines import RESOLUTION, Deadlines
from authproxy.errors import ConnectFailed, NotVerified, TimedOut
from authproxy.settings import HealthSettings, PoolSettings, Timeouts, Upstream
from authproxy.upstream.check import ENOUGH, RESULTS
from authproxy.upstream.connection import Connection
from authproxy.upstream.dialler import explain
from authproxy.upstream.health import Health, watch
from authproxy.upstream.pool import Pool
from authproxy.upstream.server import Server, by_load
from authproxy.wire.heads import HeadLimits

from ..transports import FakeTransport, connect

READY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
STARTING = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}"


class _Tests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.deadlines = Deadlines(self.clock, self.clock.seconds)
        self.deadlines.start()
        self.dials: list[tuple[Deferred[Connection], Server]] = []
        self.cancelled = 0
        self.said: list[tuple[str, str]] = []
        globalLogPublisher.addObserver(self._hear)
        self.addCleanup(globalLogPublisher.removeObserver, self._hear)

    def _hear(self, event: Any) -> None:
        if event["log_namespace"] == "authproxy.upstream.health":
            level: LogLevel = event["log_level"]
            self.said.append((level.name, event["log_format"].format(**event)))  # type: ignore[attr-defined]

    def pool(self, servers: int = 1) -> Pool:
        upstreams = tuple(Upstream("http", "tcp", f"10.0.0.{n}", 9000) for n in range(servers))
        return Pool(upstreams, PoolSettings(), self.deadlines, self._no_dial)

    def _no_dial(self, server: Server) -> Deferred[Connection]:
        raise AssertionError("not through the pool")

    def _dial(self, server: Server) -> Deferred[Connection]:
        dialling: Deferred[Connection] = Deferred(self._cancel)
        self.dials.append((dialling, server))
        return dialling

    def _cancel(self, dialling: Deferred[Connection]) -> None:
        self.cancelled += 1
        dialling.errback(explain(CancelledError(), "it"))

    def watched(self, servers: int = 1, site: str = "sso", **settings: Any) -> Pool:
        pool = self.pool(servers)
        self.watch(pool, site, **settings)
        return pool

    def watch(self, pool: Pool, site: str = "sso", host: str = "", **settings: Any) -> None:
        watch(pool, site, host, evolve(HealthSettings(), **settings), self._dial, self.deadlines)

    def health(self, pool: Pool, number: int = 0) -> Health:
        health = pool.servers[number].health
        assert health is not None
        return health

    def connected(self) -> FakeTransport:
        """The oldest dial succeeds."""
        dialling, server = self.dials.pop(0)
        connection = Connection(server, self.deadlines, Timeouts(), HeadLimits())
        transport = connect(connection)
        dialling.callback(connection)
        return transport

    def answered(self, answer: bytes = READY) -> FakeTransport:
        """The oldest dial succeeds, and this comes."""
        transport = self.connected()
        transport.protocol.dataReceived(answer)
        return transport

    def refused(self, error: Exception | None = None) -> None:
        self.dials.pop(0)[0].errback(error or ConnectFailed("nothing listens"))

    def advance(self, seconds: float) -> None:
        self.clock.pump([RESOLUTION] * round(seconds / RESOLUTION))

    def until_a_check(self) -> float:
        """The seconds until the next one."""
        begun = self.clock.seconds()
        while not self.dials:
            self.advance(RESOLUTION)
            self.assertLess(self.clock.seconds(), begun + 60)
        return self.clock.seconds() - begun

    def known_up(self, servers: int = 1, **settings: Any) -> Pool:
        """After a first check that was good, as the second is about to be made."""
        pool = self.watched(servers, **settings)
        for _ in range(servers):
            self.until_a_check()
            self.answered()
        return pool

    def fails(self, times: int = 1) -> None:
        """So many checks in a row find nothing there."""
        for _ in range(times):
            self.until_a_check()
            self.refused()


class RequestTests(_Tests):
    def test_on_the_wire(self) -> None:
        self.watched()
        self.until_a_check()
        transport = self.connected()
        self.assertEqual(
            transport.take(),
            b"GET /-/health/ready/ HTTP/1.1\r\nhost: 10.0.0.0\r\nuser-agent: authproxy-health\r\n"
            b"accept: */*\r\nconnection: close\r\n\r\n",
        )

    def test_host(self) -> None:
        """The site's, or the server's own."""
        for upstream, given, expected in (
            (Upstream("https", "tcp", "10.0.0.5", 9443), "sso.example.com", b"sso.example.com"),
            (Upstream("https", "tcp", "authentik.example", 9443), "", b"authentik.example"),
            (Upstream("https", "tcp", "2001:db8::5", 9443), "", b"[2001:db8::5]"),
            (Upstream("http", "unix", path="/run/a.sock"), "", b"localhost"),
        ):
            pool = Pool((upstream,), PoolSettings(), self.deadlines, self._no_dial)
            self.watch(pool, host=given, target="/ready")
            self.until_a_check()
            self.assertEqual(self.dials[0][1].upstream, upstream)  # the same TLS verification
            sent = self.connected().take()
            self.assertTrue(sent.startswith(b"GET /ready HTTP/1.1\r\nhost: " + expected + b"\r\n"))
            pool.close()

    def test_nothing_counts_in_the_pool(self) -> None:
        pool = self.watched()
        self.until_a_check()
        self.assertEqual((pool.open, pool.counts.dials), (0, 0))
        transport = self.connected()
        self.assertEqual((pool.open, pool.servers[0].connections), (0, set()))
        transport.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        # Upstream would keep it open: it is closed all the same, and never lent.
        self.assertEqual(transport.ended, "lose")
        self.assertEqual((pool.open, pool.servers[0].idle), (0, []))


class ResultTests(_Tests):
    def result(self, pool: Pool) -> str:
        [result] = self.health(pool).results
        self.assertIn(result, RESULTS)
        return result

    def test_answers(self) -> None:
        for answer, expected, words in (
            (READY, "ok", ""),
            (b"HTTP/1.1 204 No Content\r\n\r\n", "ok", ""),
            (b"HTTP/1.1 103 Early Hints\r\n\r\n" + READY, "ok", ""),
            (STARTING, "status", "starts"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status", "health.path"),
            (b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n", "status", "301"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "protocol", "not HTTP"),
            (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "protocol", "not HTTP"),
        ):
            pool = self.watched()
            self.until_a_check()
            transport = self.answered(answer)
            health = self.health(pool)
            self.assertEqual((self.result(pool), health.up), (expected, expected == "ok"), answer)
            self.assertIn(words, health.error)
            self.assertTrue(transport.ended)
            pool.close()

    def test_dials(self) -> None:
        for error, expected in (
            (ConnectFailed("nothing listens"), "connect"),
            (NotVerified("a foreign certificate"), "certificate"),
            (TimedOut("a slow handshake"), "timeout"),
        ):
            pool = self.watched()
            self.until_a_check()
            self.refused(error)
            self.assertEqual(self.result(pool), expected)
            self.assertEqual(self.health(pool).error, str(error))
            pool.close()

    def test_an_error_that_is_none_of_ours(self) -> None:
        pool = self.watched()
        self.until_a_check()
        self.refused(RuntimeError("a bug"))
        self.assertEqual(self.result(pool), "connect")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_content_that_comes_in_pieces(self) -> None:
        pool = self.watched()
        self.until_a_check()
        transport = self.answered(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        self.assertFalse(self.health(pool).results)
        transport.protocol.dataReceived(b"world")
        self.assertEqual(self.result(pool), "ok")

    def test_content_until_the_end_of_the_connection(self) -> None:
        pool = self.watched()
        self.until_a_check()
        transport = self.answered(b"HTTP/1.1 200 OK\r\n\r\nhello")
        transport.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.result(pool), "ok")

    def test_content_without_end(self) -> None:
        pool = self.watched()
        self.until_a_check()
        transport = self.answered(b"HTTP/1.1 200 OK\r\n\r\n")
        transport.protocol.dataReceived(b"x" * (ENOUGH + 1))
        self.assertEqual((self.result(pool), transport.ended), ("ok", "abort"))

    def test_a_cut(self) -> None:
        pool = self.watched()
        self.until_a_check()
        transport = self.answered(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        transport.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.result(pool), "protocol")
        self.assertTrue(self.health(pool).error.endswith("closed before the end of the content."))

    def test_a_sentence_has_one_end(self) -> None:
        pool = self.watched()
        self.until_a_check()
        transport = self.answered(b"")
        transport.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertRegex(self.health(pool).error, r"Its log may say why\.\Z")

    def test_nobody_accepts(self) -> None:
        pool = self.watched()
        self.until_a_check()
        self.advance(2.5)
        self.assertFalse(self.health(pool).results)
        self.advance(0.5)
        self.assertEqual((self.result(pool), self.cancelled), ("timeout", 1))
        self.assertIn("firewall", self.health(pool).error)

    def test_it_hangs(self) -> None:
        """One deadline for all of it, which no octet moves."""
        pool = self.watched()
        self.until_a_check()
        self.advance(2)
        transport = self.answered(b"HTTP/1.1 200 OK\r\n")
        self.advance(RESOLUTION)
        transport.protocol.dataReceived(b"a: b\r\n")
        self.advance(RESOLUTION)
        self.assertEqual((self.result(pool), transport.ended), ("timeout", "abort"))
        self.assertIn("hang", self.health(pool).error)


class ScheduleTests(_Tests):
    def test_the_first_at_once(self) -> None:
        """And nobody waits for it: it is up until something else is known."""
        pool = self.watched(2)
        self.assertEqual([self.health(pool, n).up for n in (0, 1)], [True, True])
        self.advance(RESOLUTION)
        dialled = {server.name for _, server in self.dials}
        self.assertEqual(dialled, {server.name for server in pool.servers})

    def test_intervals(self) -> None:
        pool = self.known_up()
        self.until_a_check()
        self.answered()
        self.assertEqual(self.until_a_check(), 10)
        self.refused()
        self.assertEqual(self.until_a_check(), 2)
        self.refused()
        self.assertFalse(self.health(pool).up)
        self.assertEqual(self.until_a_check(), 2)
        self.answered()
        self.assertTrue(self.health(pool).up)
        self.assertEqual(self.until_a_check(), 10)

    def test_from_begin_to_begin_and_one_at_a_time(self) -> None:
        self.known_up(interval_down=1)
        self.until_a_check()
        for _ in range(3):
            self.assertEqual(len(self.dials), 1)
            self.advance(3)  # given up, and the next is due
            self.dials.pop(0)
            self.assertLessEqual(self.until_a_check(), RESOLUTION)

    def test_spread(self) -> None:
        """Servers of one site evenly, sites by their names, and the same every time."""
        self.assertEqual(self.begins(4), self.begins(4))
        gaps = sorted(self.begins(4))
        gaps = [later - earlier for earlier, later in pairwise(gaps)]
        self.assertEqual([round(gap / 2.5) for gap in gaps], [1, 1, 1])
        self.assertGreater(len({self.begins(1, f"s{n}.example")[0] for n in range(8)}), 4)

    def begins(self, servers: int, site: str = "sso") -> list[float]:
        """When each server's second check begins, in seconds from now."""
        pool = self.watched(servers, site)
        self.advance(RESOLUTION)
        while self.dials:
            self.answered()
        moments = [self.health(pool, n).deadline - self.clock.seconds() for n in range(servers)]
        pool.close()
        return moments

    def test_failures(self) -> None:
        pool = self.known_up(failures=3)
        self.fails(2)
        self.until_a_check()
        self.answered()
        self.fails(2)
        self.assertTrue(self.health(pool).up)
        self.fails()
        self.assertFalse(self.health(pool).up)

    def test_successes(self) -> None:
        pool = self.known_up(successes=2)
        self.fails(2)
        self.until_a_check()
        self.answered()
        self.fails()
        self.until_a_check()
        self.answered()
        self.assertFalse(self.health(pool).up)
        self.assertEqual(self.until_a_check(), 2)
        self.answered()
        self.assertTrue(self.health(pool).up)

    def test_one_failure_is_enough_at_the_start(self) -> None:
        """Nothing speaks for it. After a reload a server that is down is known to be soon."""
        pool = self.watched(failures=5)
        self.fails()
        self.assertFalse(self.health(pool).up)

    def test_a_failed_dial_brings_the_next_check_forward(self) -> None:
        pool = self.known_up()
        self.until_a_check()
        self.answered()
        self.advance(3)
        pool.servers[0].failed(1, self.clock.seconds())
        self.assertEqual(self.until_a_check(), RESOLUTION)
        self.answered()
        # Not again and again.
        pool.servers[0].failed(2, self.clock.seconds())
        self.assertEqual(self.until_a_check(), 2)

    def test_what_is_known_of_it(self) -> None:
        pool = self.watched()
        self.until_a_check()
        self.clock.advance(0.2)
        self.answered()
        health = self.health(pool)
        self.assertAlmostEqual(health.latency, 0.2)
        self.assertEqual((health.error, health.since), ("", 1000))
        self.fails(2)
        self.assertEqual((health.error, health.since), ("nothing listens", self.clock.seconds()))


class OrderTests(_Tests):
    def test_a_good_check_ends_the_backoff(self) -> None:
        pool = self.known_up(2)
        for server in pool.servers:
            server.failed(7, self.clock.seconds())
        self.until_a_check()
        while self.dials:
            self.answered()
        self.assertEqual([server.failures for server in pool.servers], [0, 0])

    def test_the_order_of_the_pool(self) -> None:
        pool = self.known_up(2)
        while self.health(pool).up:
            self.until_a_check()
            if self.dials[0][1].name == pool.servers[0].name:
                self.refused()
            else:
                self.answered()
        self.assertEqual([server.down for server in pool.servers], [True, False])
        self.assertEqual(by_load(pool.servers, self.deadlines.now())[0], pool.servers[1])


class SayingTests(_Tests):
    def test_once_when_it_goes_and_once_when_it_is_back(self) -> None:
        self.known_up()
        self.assertEqual(self.said, [])
        self.fails(6)
        [(level, words)] = self.said
        self.assertEqual(level, "error")
        self.assertEqual(
            words,
            "upstream: Site sso: http://10.0.0.0:9000 is down (it is asked all the same, there is no other):"
            " nothing listens",
        )
        self.until_a_check()
        self.answered()
        self.assertEqual(
            self.said[1:],
            [
                (
                    "info",
                    "upstream: Site sso: http://10.0.0.0:9000 is up again; it was down for 10 s.",
                )
            ],
        )

    def test_what_it_means(self) -> None:
        self.watched(2)
        self.fails(2)
        self.assertIn("is down (others are asked)", self.said[0][1])
        self.assertIn("is down (and so is every other", self.said[1][1])


class EndTests(_Tests):
    def test_closed_while_dialling(self) -> None:
        pool = self.watched()
        self.until_a_check()
        pool.close()
        self.assertEqual((self.cancelled, len(self.deadlines)), (1, 0))
        self.assertEqual((self.said, self.health(pool).results), ([], {}))

    def test_closed_while_waiting(self) -> None:
        pool = self.watched()
        self.until_a_check()
        transport = self.connected()
        pool.close()
        self.assertEqual((transport.ended, len(self.deadlines)), ("abort", 0))
        self.advance(30)
        self.assertEqual((self.said, self.dials), ([], []))

    def test_retired(self) -> None:
        """Another pool has the site: this one's checks would say everything twice."""
        pool = self.watched()
        self.until_a_check()
        pool.retire()
        self.assertEqual((self.cancelled, len(self.deadlines)), (1, 0))

    def test_switched_off(self) -> None:
        """It counts as up, and nothing is asked."""
        pool = self.watched(target="")
        self.advance(30)
        self.assertEqual((self.dials, self.health(pool).up), ([], True))

    def test_other_settings(self) -> None:
        """Those who watch go on with what they know."""
        pool = self.watched()
        self.fails()
        self.watch(pool, target="/other")
        self.assertFalse(self.health(pool).up)
        self.until_a_check()
        self.assertIn(b"GET /other ", self.answered().take())
        self.assertEqual(self.health(pool).results, {"connect": 1, "ok": 1})

    def test_switched_off_while_down(self) -> None:
        pool = self.watched()
        self.fails()
        self.assertTrue(pool.servers[0].down)
        self.watch(pool, target="")
        self.assertEqual((self.health(pool).up, pool.servers[0].down), (True, False))
        self.advance(30)
        self.assertEqual(self.dials, [])
        self.watch(pool)
        self.until_a_check()
