"""What is kept of the message before, for the next one that repeats it, makes no difference."""

from __future__ import annotations

import re
from typing import Any

from attrs import evolve
from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from authproxy import pages
from authproxy.settings import Settings, Trust
from authproxy.wire.responses import COMPARED

from .examples import EXAMPLES
from .transports import FakeTransport
from .wire import corpus
from .wire.generated import REQUESTS, RESPONSES
from .world import World, get, say

PEER = "198.51.100.7"
REQUEST_ID = re.compile(rb"[0-9a-f]{16}")  # of pages of our own
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
SETTINGS = settings(EXAMPLES, max_examples=300)
BELIEVED = (
    b"X-Forwarded-For: 192.0.2.1, 10.0.0.9",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: other.example",
    b"SSL-Client-Cert: -----BEGIN",
)
FAMILIAR = (
    get(),
    get(b"/2"),
    get(b"/", b"X_Odd: 1"),
    get(b"/", b"Connection: x-a", b"X-A: 1"),
    get(b"/", b"Content-Length: 5", method=b"POST") + b"hello",
    get(b"/", b"Content-Length: 5", method=b"PUT") + b"world",
    get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"1\r\nx\r\n0\r\n\r\n",
    get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"0\r\nx-t: 1\r\n\r\n",
    get().replace(b"Host: sso.example.com", b"Host: other.example"),
    get().replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"),
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    get(b"/", *BELIEVED),
    get(b"/2", *BELIEVED),
    get(b"/", BELIEVED[0]),
)  # fmt: skip


def world_of(trusted: bool = False, append: bool = False, hsts: bytes | None = None) -> World:
    """A proxy that believes its peer or does not."""
    trust = Trust(proxies=(PEER,) if trusted else ())
    listen = evolve(Settings().listen, plain_http="serve")
    return World(evolve(Settings(), trust=trust, listen=listen), append=append, hsts=hsts)


def exchange(
    world: World, client: FakeTransport, request: bytes, answer: bytes = EMPTY
) -> tuple[Any, ...]:
    """One request and its answer: all that leaves the proxy, and what is logged and counted."""
    dropped = world.gateway.dropped_fields.copy()
    world.access.lines.clear()
    say(client, request)
    asked = b"".join(origin.take() for origin in world.origins)
    if asked:
        for connection in {*world.pool.servers[0].connections}:
            if connection not in world.pool.servers[0].idle:
                say(connection.transport, answer)  # type: ignore[arg-type]
    answered = REQUEST_ID.sub(b"", client.take())
    lines = [line[:10] + line[12:] for line in world.access.lines]
    return asked, answered, client.ended, lines, world.gateway.dropped_fields - dropped


class _Tests(SynchronousTestCase):
    def setUp(self) -> None:
        """Pages of our own have no date that changes between the one and the other."""
        self.patch(pages, "formatdate", lambda usegmt: "Fri, 27 Nov 2026 05:21:57 GMT")


class RequestTests(_Tests):
    def compare(
        self, first: bytes, second: bytes, trusted: bool, append: bool, secure: bool = True
    ) -> None:
        """The second after the first, and the second alone."""
        world = world_of(trusted, append)
        client = world.client(PEER, secure)
        exchange(world, client, first)
        if client.ended or world.gateway.exchanges:
            return  # the connection ends with it, or more of it would have to come
        after = exchange(world, client, second)
        alone = world_of(trusted, append)
        self.assertEqual(after, exchange(alone, alone.client(PEER, secure), second), second)

    def test_pairs(self) -> None:
        for first in FAMILIAR:
            for second in FAMILIAR:
                for trusted, append, secure in (
                    (False, False, True),
                    (True, False, True),
                    (True, True, False),
                ):
                    self.compare(first, second, trusted, append, secure)

    def test_every_request_of_the_corpus_after_every_other(self) -> None:
        samples = [s.octets for s in corpus.load("requests/valid") if len(s.octets) < 8192]
        self.assertGreater(len(samples), 30)
        for first in samples:
            for second in samples:
                self.compare(first, second, trusted=False, append=False)

    @SETTINGS
    @given(REQUESTS)
    def test_anything_twice(self, request: bytes) -> None:
        self.compare(request, request, trusted=True, append=True)

    def test_it_is_taken(self) -> None:
        """The head upstream gets is not made again, and each has its own method and target."""
        world = world_of()
        client = world.client(PEER)
        exchange(world, client, get(b"/1", b"Accept: */*"))
        first = client.protocol.head
        exchange(world, client, get(b"/2", b"Accept: */*", method=b"OPTIONS"))
        second = client.protocol.head
        self.assertIs(second.forwarded, first.forwarded)
        self.assertNotEqual(second.forwarded, b"")
        self.assertEqual((second.method, second.target), (b"OPTIONS", b"/2"))

    def test_each_repetition_is_counted(self) -> None:
        world = world_of()
        client = world.client(PEER)
        for _ in range(3):
            exchange(world, client, get(b"/", b"X_Forwarded_For: 1"))
        self.assertEqual(world.gateway.dropped_fields, {"odd name": 3})

    def test_it_stays_with_its_connection(self) -> None:
        """Another client that sends the same octets is another client."""
        world = world_of()
        for address in (b"192.0.2.1", b"192.0.2.2"):
            asked = exchange(world, world.client(address.decode()), get())[0]
            self.assertIn(b"x-forwarded-for: " + address + b"\r\n", asked)


class ResponseTests(_Tests):
    """Two requests of any clients, one after the other on one upstream connection."""

    HTTP_10 = b"GET / HTTP/1.0\r\nHost: sso.example.com\r\n\r\n"
    ANSWERS = (
        EMPTY,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=9\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: x-a\r\nX-A: 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",  # to HEAD; else it would not end
    )

    def compare(self, first: tuple[bytes, bytes], second: tuple[bytes, bytes]) -> None:
        """The second pair of request and answer after the first, and alone."""
        for hsts in (b"max-age=1", b"", None):
            for was_secure, secure in ((True, True), (False, True), (True, False)):
                world = world_of(hsts=hsts)
                exchange(world, world.client(PEER, was_secure), *first)
                if world.gateway.exchanges or not world.pool.servers[0].idle:
                    return
                after = exchange(world, world.client(PEER, secure), *second)
                alone = world_of(hsts=hsts)
                expected = exchange(alone, alone.client(PEER, secure), *second)
                self.assertEqual(after, expected, (first, second))

    def test_pairs(self) -> None:
        requests = (get(), get(method=b"HEAD"), get(b"/", b"Connection: close"), self.HTTP_10)
        pairs = [(request, answer) for request in requests for answer in self.ANSWERS]
        for first in pairs:
            for second in pairs:
                self.compare(first, second)

    def test_every_response_of_the_corpus_after_every_other(self) -> None:
        samples = [(get(), s.octets) for s in corpus.load("responses/valid")]
        self.assertGreater(len(samples), 10)
        for first in samples:
            for second in samples:
                self.compare(first, second)

    @SETTINGS
    @given(RESPONSES)
    def test_anything_twice(self, answer: bytes) -> None:
        self.compare((get(), answer), (get(), answer))

    def test_it_is_taken(self) -> None:
        world = world_of()
        client = world.client()
        kept = []
        for path in (b"/1", b"/2"):
            exchange(world, client, get(path), self.ANSWERS[1])
            kept.append(world.origins[0].protocol._responses._head)
        self.assertIs(kept[0], kept[1])
        self.assertIsNotNone(kept[1].forwarded)

    def test_a_drain_closes_in_spite_of_it(self) -> None:
        world = world_of()
        client = world.client()
        exchange(world, client, get(), EMPTY)
        world.gateway.draining = True
        self.assertIn(b"\r\nconnection: close\r\n", exchange(world, client, get(), EMPTY)[1])

    def test_a_long_head_is_not_kept(self) -> None:
        world = world_of()
        answer = EMPTY.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * COMPARED + b"\r\n\r\n")
        client = world.client()
        exchange(world, client, get(), answer)
        self.assertEqual(world.origins[0].protocol._responses._head.octets, b"")
        # Nor is it what no head at all repeats.
        self.assertIn(b" 502 ", exchange(world, client, get(), b"\r\n\r\n")[1])
