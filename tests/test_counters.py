"""What is counted: of requests, WebSockets, pools and connections, and summed over processes."""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from authproxy.counters import BUCKETS, COUNTED, Snapshot, lasting, snapshot, total
from authproxy.errors import ConnectFailed
from authproxy.gateway import MOST_REASONS, Site
from authproxy.notify import status
from authproxy.settings import Settings, Timeouts
from authproxy.sitecounts import BATCH, WEBSOCKETS, websocket_path
from authproxy.wire.errors import ProtocolError

from .test_relay import SWITCHING, UPGRADE
from .transports import FakeTransport
from .world import OK, World, get, say

SITE = "sso.example.com"
BY_THE_SUPERVISOR = {"workers", "worker_restarts", "certificate_expiry_timestamp_seconds"}
BY_THE_ADMIN_SIDE = {"last_reload_successful", "last_reload_timestamp_seconds"}
OF_CHECKS = {"upstream_up", "upstream_checks"}  # where they are made
POST = b"POST / HTTP/1.1\r\nHost: sso.example.com\r\nContent-Length: 4\r\n\r\n"


class TotalTests(SynchronousTestCase):
    def test_key_by_key(self) -> None:
        summed = total([
            {"requests": {"x\tGET": 1}, "refused": {"a": 1, "b": 2}},
            {"requests": {"x\tGET": 10}, "refused": {"b": 20, "c": 30}},
        ])  # fmt: skip
        self.assertEqual(
            summed, {"requests": {"x\tGET": 11}, "refused": {"a": 1, "b": 22, "c": 30}}
        )

    def test_the_parts_stay_as_they_were(self) -> None:
        first: Snapshot = {"exchanges": {"": 1}}
        total([first, first])
        self.assertEqual(first, {"exchanges": {"": 1}})

    def test_what_outlives_a_process(self) -> None:
        ended: Snapshot = {"retries": {"x": 5}, "request_seconds": {"x\tsum": 1}}
        self.assertEqual(lasting({**ended, "websockets": {"other": 3}}), ended)


class _Tests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(Settings(), hosts=(SITE,))
        self.client = self.world.client()

    def seen(self) -> Snapshot:
        access: Any = self.world.access
        access.lost = 2
        return snapshot(self.world.gateway, access)

    def of(self, name: str) -> dict[str, float]:
        """Its numbers that are not 0."""
        return {key: value for key, value in self.seen()[name].items() if value}

    def ask(self, request: bytes, answer: bytes = OK) -> None:
        say(self.client, request)
        say(self.world.origins[-1], answer)


class RequestTests(_Tests):
    def test_names(self) -> None:
        """A snapshot has all names, and each key as many parts as there are labels."""
        self.ask(get())
        self.ask(get(b"/", b"X-Real-IP: 1"))
        seen = self.seen()
        self.assertEqual(
            set(seen) | BY_THE_SUPERVISOR | BY_THE_ADMIN_SIDE | OF_CHECKS,
            {counted.name for counted in COUNTED},
        )
        for counted in COUNTED:
            for key in seen.get(counted.name, {}):
                parts = key.split("\t") if key else []
                self.assertEqual(len(parts), len(counted.labels), (counted.name, key))
        self.assertEqual(json.loads(json.dumps(seen)), seen)
        self.assertEqual(status(seen), "STATUS=1 connections, 0 WebSockets, 2 requests")

    def test_by_method_status_and_version(self) -> None:
        self.ask(get())
        self.ask(get())
        self.ask(get(method=b"DELETE"), b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        self.ask(b"GET / HTTP/1.0\r\nHost: sso.example.com\r\n\r\n")
        self.assertEqual(
            self.of("requests"),
            {
                f"{SITE}\tGET\t2xx\t1.1": 2,
                f"{SITE}\tDELETE\t4xx\t1.1": 1,
                f"{SITE}\tGET\t2xx\t1.0": 1,
            },
        )

    def test_methods_that_clients_make_up(self) -> None:
        """They are one: who can make up label values can fill Prometheus' memory."""
        for n in range(BATCH + 2):
            self.ask(get(method=b"BREW%d" % n))
        self.assertEqual(self.world.site.counts.requests, {11: {b"other": {200: BATCH}}})
        self.assertEqual(self.of("requests"), {f"{SITE}\tother\t2xx\t1.1": BATCH + 2})
        self.assertEqual(self.of("request_seconds")[f"{SITE}\t0.001"], BATCH + 2)

    def test_of_no_site(self) -> None:
        for n in range(3):
            say(self.client, b"GET / HTTP/1.1\r\nHost: %d.example.net\r\n\r\n" % n)
        self.assertEqual(self.of("requests"), {"-\tGET\t4xx\t1.1": 3})

    def test_durations(self) -> None:
        say(self.client, get())
        self.world.advance(1)
        say(self.world.origins[0], OK)
        say(self.client, get())
        self.world.advance(2)
        say(self.world.origins[0], OK[:-1])
        self.world.advance(4)
        say(self.world.origins[0], OK[-1:])
        whole = {f"{SITE}\t1.0": 1, f"{SITE}\t10.0": 1, f"{SITE}\tsum": 7.0}
        self.assertEqual(self.of("request_seconds"), whole)
        first = {f"{SITE}\t1.0": 1, f"{SITE}\t2.5": 1, f"{SITE}\tsum": 3.0}
        self.assertEqual(self.of("upstream_first_byte_seconds"), first)

    def test_longer_than_any_bucket(self) -> None:
        settings = Settings(timeouts=Timeouts(first_byte=600))
        self.world = World(settings, hosts=(SITE,))
        self.client = self.world.client()
        say(self.client, get())
        self.world.advance(61)
        say(self.world.origins[0], OK)
        self.assertEqual(self.of("request_seconds"), {f"{SITE}\t+Inf": 1, f"{SITE}\tsum": 61})
        self.assertEqual(
            [key.partition("\t")[2] for key in self.seen()["request_seconds"] if SITE in key],
            [*BUCKETS, "sum"],
        )

    def test_upstream_is_timed_once_it_has_the_request(self) -> None:
        """A slow upload is not upstream's time, nor is a request that waits for the client."""
        say(self.client, POST.replace(b"4", b"200000") + bytes(150_000))
        self.world.advance(5)
        say(self.client, bytes(50_000))
        self.world.advance(1)
        say(self.world.origins[0], OK)
        self.assertEqual(self.of("upstream_first_byte_seconds")[f"{SITE}\tsum"], 1)
        self.assertEqual(self.of("request_seconds")[f"{SITE}\tsum"], 6)

    def test_100_continue(self) -> None:
        say(self.client, POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        [origin] = self.world.origins
        self.world.advance(1)
        say(origin, b"HTTP/1.1 100 Continue\r\n\r\n")
        self.world.advance(5)
        say(self.client, b"body")
        self.world.advance(2)
        say(origin, OK)
        self.assertEqual(self.of("upstream_first_byte_seconds")[f"{SITE}\tsum"], 2)

    def test_an_early_answer_is_not_timed(self) -> None:
        """There is no moment to count from, least of all that of the request before."""
        self.ask(get())
        self.world.advance(10)
        say(self.client, POST.replace(b"4", b"200000") + bytes(150_000))
        say(self.world.origins[0], OK)
        self.assertEqual(self.of("upstream_first_byte_seconds"), {f"{SITE}\t0.001": 1})

    def test_octets(self) -> None:
        self.ask(POST + b"1234")
        self.ask(get())
        self.assertEqual(self.of("content_received_bytes"), {SITE: 4})
        self.assertEqual(self.of("content_sent_bytes"), {SITE: 10})

    def test_a_client_that_goes(self) -> None:
        say(self.client, get())
        self.client.finish()
        self.assertEqual(self.of("requests"), {f"{SITE}\tGET\t4xx\t1.1": 1})
        self.assertEqual(self.of("upstream_first_byte_seconds"), {})
        self.assertEqual(self.of("exchanges"), {})


class RefusalTests(_Tests):
    def test_reasons(self) -> None:
        say(self.client, b"BAD\r\n\r\n")
        self.assertEqual(
            self.of("refused"), {"a request line that is not method, target and version": 1}
        )

    def test_reasons_are_bounded(self) -> None:
        """Even if one of them should repeat what a client sent."""
        for n in range(MOST_REASONS + 50):
            self.world.gateway.refused_request("192.0.2.1", ProtocolError(400, f"{n}"))
        refused = self.of("refused")
        self.assertEqual((len(refused), refused["other"]), (MOST_REASONS + 1, 50))

    def test_forged_fields(self) -> None:
        """By a word for each, which no client chooses."""
        forged = (
            b"X-Forwarded-For: 1", b"X-Forwarded-For: 2", b"X-Forwarded-Prefix: /", b"Forwarded: a",
            b"X-Real-IP: 1", b"SSL-Client-Cert: 1", b"X_Odd: 1", b"x-forwarded-made-up: 1",
        )  # fmt: skip
        self.ask(get(b"/", *forged, b"TE: trailers", b"Proxy-Authorization: x", b"X-Own: 1"))
        counted = {
            "x-forwarded-for": 2, "x-forwarded-*": 2, "forwarded": 1, "x-real-ip": 1,
            "ssl-client-cert": 1, "odd name": 1,
        }  # fmt: skip
        self.assertEqual(self.of("dropped_fields"), counted)

    def test_a_trusted_proxy_forges_nothing(self) -> None:
        settings = evolve(Settings(), trust=evolve(Settings().trust, proxies=("198.51.100.7",)))
        self.world = World(settings, hosts=(SITE,))
        self.client = self.world.client("198.51.100.7")
        self.ask(get(b"/", b"X-Forwarded-For: 192.0.2.1", b"X-Real-IP: 1", b"SSL-Client-Cert: 1"))
        self.assertEqual(self.of("dropped_fields"), {})


class UpstreamTests(_Tests):
    def test_connections(self) -> None:
        self.ask(get())
        self.ask(get())
        self.assertEqual(self.of("upstream_connections"), {f"{SITE}\tidle": 1})
        self.assertEqual(self.of("upstream_dials"), {SITE: 1})
        self.assertEqual(self.of("upstream_reuses"), {SITE: 1})
        say(self.client, get())
        self.assertEqual(self.of("upstream_connections"), {f"{SITE}\tleased": 1})
        self.assertEqual(self.of("exchanges"), {"": 1})
        self.world.dial_by_hand = True
        say(self.world.client(), get())
        self.assertEqual(
            self.of("upstream_connections"), {f"{SITE}\tleased": 1, f"{SITE}\tdialling": 1}
        )
        self.assertEqual(self.of("upstream_waiting"), {SITE: 1})

    def test_a_retry(self) -> None:
        self.ask(get())
        say(self.client, get())
        self.world.origins[0].finish()
        say(self.world.origins[1], OK)
        self.assertEqual(self.of("retries"), {SITE: 1})
        self.assertEqual(sum(self.of("requests").values()), 2)

    def test_faults(self) -> None:
        self.world.dial_by_hand = True
        say(self.client, get())
        self.world.dials.pop()[0].errback(ConnectFailed("refused"))
        self.assertEqual(self.of("upstream_dial_failures"), {SITE: 1})
        self.world.dial_by_hand = False
        self.world.pool.servers[0].failed_until = 0
        self.ask(get(), b"nonsense\r\n\r\n")
        say(self.client, get())
        self.world.advance(Settings().timeouts.first_byte + 1)
        faults = {f"{SITE}\tno connection": 1, f"{SITE}\tnot HTTP": 1, f"{SITE}\ttoo slow": 1}
        self.assertEqual(self.of("upstream_faults"), faults)
        self.assertEqual(self.of("requests"), {f"{SITE}\tGET\t5xx\t1.1": 3})


class WebSocketTests(_Tests):
    def open(self, path: bytes) -> tuple[FakeTransport, FakeTransport]:
        client = self.world.client()
        say(client, get(path, *UPGRADE))
        origin = self.world.origins[-1]
        say(origin, SWITCHING)
        return client, origin

    def test_paths(self) -> None:
        for path, word in (
            (b"/ws/client/?a", "/ws/client/"),
            (b"/ws/outpost/0b7d/", "/ws/outpost/"),
            (b"/ws/rac/1/", "/ws/rac/"),
            (b"/ws/outpost_rac/1/", "/ws/outpost_rac/"),
            (b"/below/this/ws/rac/1/", "/ws/rac/"),
            (b"/ws/made-up/", "other"),
            (b"/?/ws/client/", "other"),
            (b"/ws/client", "other"),
        ):
            self.assertEqual(websocket_path(path), word, path)
            self.assertIn(word, WEBSOCKETS)

    def test_open_and_closed(self) -> None:
        client, origin = self.open(b"/ws/outpost/1/")
        self.open(b"/ws/client/")
        say(client, b"123")
        say(origin, b"12345")
        self.assertEqual(self.of("websockets"), {"/ws/outpost/": 1, "/ws/client/": 1})
        opened = {"/ws/outpost/": 1, "/ws/client/": 1}
        self.assertEqual(self.of("websockets_opened"), opened)
        self.assertEqual(self.of("websocket_received_bytes"), {SITE: 3})  # while they are open
        self.assertEqual(self.of("websocket_sent_bytes"), {SITE: 5})
        self.world.advance(100)
        client.finish()
        origin.finish()
        self.assertEqual(self.of("websockets"), {"/ws/client/": 1})
        self.assertEqual(self.of("websockets_opened"), opened)
        self.assertEqual(self.of("websocket_received_bytes"), {SITE: 3})  # and after
        self.assertEqual(self.of("websocket_sent_bytes"), {SITE: 5})
        self.assertEqual(self.of("requests"), {f"{SITE}\tGET\t1xx\t1.1": 1})
        # How long it was open is nothing that a request took.
        self.assertEqual((self.of("request_seconds"), self.of("content_sent_bytes")), ({}, {}))

    def test_what_came_with_the_101(self) -> None:
        client = self.world.client()
        say(client, get(b"/ws/client/", *UPGRADE) + b"early")
        say(self.world.origins[-1], SWITCHING + b"word")
        self.assertEqual(self.of("websocket_received_bytes"), {SITE: 5})
        self.assertEqual(self.of("websocket_sent_bytes"), {SITE: 4})


class LastingTests(_Tests):
    def test_a_site_that_is_replaced(self) -> None:
        """Its counts go on: a counter that went back would be taken for a restart."""
        self.ask(get())
        gateway = self.world.gateway
        before = lasting(self.seen())
        other = World(Settings())
        site, added = (
            Site((SITE,), other.pool),
            Site(("added.example.com",), World(Settings()).pool),
        )
        gateway.adopt(Settings(), [site, added])
        self.assertEqual(self.of("upstream_connections"), {})
        say(self.client, get())
        say(other.origins[0], OK)
        now = self.seen()
        for name, values in before.items():
            self.assertLessEqual(values.items(), now[name].items() | values.items(), name)
        self.assertEqual(self.of("requests"), {f"{SITE}\tGET\t2xx\t1.1": 2})
        self.assertEqual(self.of("upstream_dials"), {SITE: 2})
        # One that is gone stays: what was counted was counted.
        gateway.adopt(Settings(), [added])
        self.assertEqual(self.of("upstream_dials"), {SITE: 2})
        self.assertNotIn(f"{SITE}\tidle", self.seen()["upstream_connections"])

    def test_nothing_lasting_goes_back(self) -> None:
        """Whatever is open or ends meanwhile."""
        before = lasting(self.seen())
        client, origin = WebSocketTests.open(self, b"/ws/client/")  # type: ignore[arg-type]
        for act in (
            lambda: self.ask(get()),
            lambda: say(client, b"abc"),
            lambda: say(origin, b"abc"),
            lambda: self.world.advance(1),
            client.finish,
            origin.finish,
            lambda: say(self.client, b"BAD\r\n\r\n"),
        ):
            act()
            now = lasting(self.seen())
            for name, values in before.items():
                for key, value in values.items():
                    self.assertLessEqual(value, now[name][key], (name, key))
            before = now
