"""Frames that nobody would send: nothing but the end of the connection comes of them."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from authproxy.errors import ConnectFailed
from authproxy.settings import Limits, Listen, PoolSettings, Settings
from authproxy.upstream.pool import Server
from authproxy.wire.websocket import accept_value

from ..examples import EXAMPLES
from ..http2_client import Client, request
from ..transports import FakeTransport
from ..world import OK, World, fields_of, say

SETTINGS = evolve(
    Settings(),
    listen=evolve(Listen(), http2_websockets=True),
    limits=evolve(Limits(), http2_streams=4, requests_per_connection=5),
    pool=evolve(PoolSettings(), connections=2),
)
# One connection to upstream, for whom some wait.
FEW = evolve(
    SETTINGS,
    limits=evolve(Limits(), http2_streams=8),
    pool=evolve(PoolSettings(), connections=1, waiting=2),
)


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """A frame, whatever it is."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + number.to_bytes(4) + payload


def block(*fields: tuple[bytes, bytes], method: bytes = b"GET") -> bytes:
    """A header block that needs no table."""
    headers = request(b"/", *fields, method=method)
    return bytes(Encoder().encode([(name, value, True) for name, value in headers]))


LARGE = (b"cookie", b"a" * 9000)
BLOCKS = st.sampled_from(
    [
        block(),
        block(method=b"POST"),
        block((b"content-length", b"3"), method=b"POST"),
        block((b"expect", b"100-continue"), method=b"POST"),
        block((b":protocol", b"websocket"), (b"sec-websocket-version", b"13"), method=b"CONNECT"),
        block(
            (b":protocol", b"websocket"),
            (b"sec-websocket-version", b"13"),
            LARGE,
            method=b"CONNECT",
        ),
        block(LARGE, method=b"POST"),
        block((b"x", b"\n")),
        b"\x88",
        b"\xff\xff\xff\xff\xff\x0f",
        b"\x3f\xe1\x1f",
        b"",
    ]
)
NUMBERS = st.sampled_from([0, 1, 1, 3, 3, 5, 7, 9, 11, 2, 0x7FFFFFFF, 0xFFFFFFFF])
FLAGS = st.sampled_from([0, 1, 4, 5, 5, 5, 8, 0x20, 0x25, 0xFF])
INTEGERS = st.sampled_from([0, 1, 5, 100, 65535, 0x7FFFFFFF, 0xFFFFFFFF]).map(
    lambda number: number.to_bytes(4)
)
FRAMES = st.one_of(
    st.builds(frame, st.just(1), FLAGS, NUMBERS, BLOCKS),
    st.builds(frame, st.just(0), st.sampled_from([0, 1, 8, 9]), NUMBERS, st.binary(max_size=9)),
    st.builds(frame, st.just(3), st.just(0), NUMBERS, INTEGERS),
    st.builds(frame, st.just(8), st.just(0), NUMBERS, INTEGERS),
    st.builds(frame, st.just(9), FLAGS, NUMBERS, BLOCKS),
    st.builds(
        lambda code, value: frame(4, 0, 0, code.to_bytes(2) + value),
        st.integers(0, 9), INTEGERS,
    ),
    st.builds(frame, st.just(6), FLAGS, st.just(0), st.just(b"GOAWAY??")),
    st.builds(frame, st.just(7), st.just(0), st.just(0), st.just(bytes(8))),
    st.builds(frame, st.integers(0, 16), FLAGS, NUMBERS, st.binary(max_size=12)),
    st.binary(min_size=1, max_size=20),
)  # fmt: skip
ASKED = [
    block(method=b"POST"),
    block((b"expect", b"100-continue"), method=b"POST"),
    block((b":protocol", b"websocket"), (b"sec-websocket-version", b"13"), method=b"CONNECT"),
    block(
        (b":protocol", b"websocket"), (b"sec-websocket-version", b"13"), LARGE, method=b"CONNECT"
    ),
    block(LARGE, method=b"POST"),
]
# What a client does that makes no mistake: it asks, and then sends, takes or cancels on a stream.
DEEDS = st.one_of(
    st.builds(lambda asked, ends: (1, 4 | ends, asked), st.sampled_from(ASKED), st.booleans()),
    st.sampled_from(
        [(0, 0, b"abc"), (0, 1, b""), (3, 0, bytes(4)), (8, 0, (5).to_bytes(4))]
    ),
)  # fmt: skip
# What happens between two segments: upstream speaks, the client's transport is full, time passes.
# and dials fail at once; what is sent is held for the end of a batch of events.
MEANWHILE = st.sampled_from(
    ["", "", "", "ok", "more", "switch", "close", "full", "empty", "wait", "drain", "fail", "hold"]
)
OFTEN = st.one_of(st.sampled_from(["switch", "ok", "close", "full"]), MEANWHILE)


def refuse(server: Server) -> Deferred[Any]:
    """No descriptor is left."""
    result: Deferred[Any] = Deferred()
    result.errback(ConnectFailed("refused"))
    return result


def release(client: Client) -> None:
    """The batch of events is over."""
    outbox = client.transport.reactor.outbox
    held, outbox.transports = outbox.transports or [], None
    for writer in held:
        writer.send_unsent()


def happen(world: World, client: Client, what: str) -> None:
    """One thing that is not the client's doing."""
    open_ones: list[Any] = [o for o in world.origins if not o.ended and o.connected]
    if what in ("ok", "more") and open_ones:
        some = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        say(open_ones[-1], OK if what == "ok" else some)
    elif what == "close" and open_ones:
        open_ones[0].ended = "lose"
        open_ones[0].finish()
    elif what == "switch" and open_ones:
        switch(open_ones[-1])
    elif what == "fail":
        world.pool.dial_with(refuse)
    elif what == "hold":
        client.transport.reactor.outbox.transports = []
    elif what == "wait":
        world.advance(7)
    elif what == "drain":
        for connection in list(world.gateway.connections):
            connection.drain()
    elif what in ("full", "empty") and client.transport.producer is not None:
        producer = client.transport.producer
        producer.pauseProducing() if what == "full" else producer.resumeProducing()


def switch(origin: FakeTransport) -> None:
    """A 101, right if a WebSocket was asked for, and what comes with it."""
    key = dict(fields_of(origin.value())).get(b"sec-websocket-key", b"")
    say(
        origin,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_value(key) + b"\r\n\r\n" + b"early",
    )


class FuzzTests(SynchronousTestCase):
    @settings(EXAMPLES, max_examples=300)
    @given(st.lists(st.tuples(FRAMES, MEANWHILE), max_size=25), st.integers(1, 40))
    def test_nothing_escapes(self, script: list[tuple[bytes, str]], size: int) -> None:
        world = World(SETTINGS)
        client = Client(world)
        for data, what in script:
            for start in range(0, len(data), size):
                if client.transport.connected and client.transport.ended != "abort":
                    client.transport.protocol.dataReceived(data[start : start + size])
            release(client)
            self.assert_counted(world, client)
            happen(world, client, what)
        release(client)
        self.assert_counted(world, client)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assert_over(world, client)

    def assert_over(self, world: World, client: Client) -> None:
        """Nothing is left where the client is gone, and upstream."""
        client.transport.finish()
        for origin in world.origins:
            if origin.connected:
                origin.finish()
        world.advance(11)  # relay_flush
        gateway = world.gateway
        self.assertEqual((gateway.exchanges, gateway.waiting.octets), (0, 0))
        self.assertEqual(client.opening.tunnels, 0)
        self.assertEqual((gateway.connections, gateway.relays), (set(), set()))
        self.assertEqual([server.leased for server in world.pool.servers], [0])
        self.assertEqual(len(world.deadlines), 3)  # the pool's, what counts faults, and what waits

    @settings(EXAMPLES, max_examples=300)
    @given(st.lists(st.tuples(DEEDS, st.integers(0, 3), OFTEN), max_size=25))
    def test_streams_come_and_go(self, script: list[tuple[Any, int, str]]) -> None:
        world = World(FEW)
        client = Client(world)
        client.opening.most_tunnels = 2
        last = -1
        for (kind, flags, payload), back, what in script:
            last += 2 * (kind == 1)
            number = last if kind == 1 else max(1, last - 2 * back)
            if client.transport.connected and client.transport.ended != "abort" and last > 0:
                client.transport.protocol.dataReceived(frame(kind, flags, number, payload))
            release(client)
            self.assert_counted(world, client)
            happen(world, client, what)
        release(client)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assert_over(world, client)

    def assert_counted(self, world: World, client: Client) -> None:
        """WebSockets, and what waits: as the streams have them."""
        streams = client.server.streams.values()
        self.assertEqual(client.opening.tunnels, sum(s._tunnel is not None for s in streams))
        octets = sum(s._outgoing.pending + s._outgoing._beside for s in streams)
        self.assertEqual((client.server.turns.octets, world.gateway.waiting.octets), (octets,) * 2)
        queue = world.pool._queue
        self.assertEqual(queue.whole, sum(entry.whole for entry in queue))
