"""Fuzz targets on fake transports: a whole proxy, one client, and what happens meanwhile.

Whatever it is told, nothing is logged as an error, and when all have hung up nothing is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.python import log

from ..downstream.test_http2_fuzz import SETTINGS, happen, release
from ..http2_client import Client
from ..transports import FakeTransport
from ..world import World

EVENTS = ("ok", "more", "switch", "close", "full", "empty", "wait", "drain", "fail", "hold")
_EVENT = 0xF0  # an octet from here on is one of EVENTS, a smaller one the length of a segment


class _Http1:
    """As much of a Client as `happen` and `release` need."""

    def __init__(self, world: World) -> None:
        self.transport = world.client()


def script_of(data: bytes) -> Iterator[bytes | str]:
    """Segments and events."""
    at = 0
    while at < len(data):
        first = data[at]
        at += 1
        if first >= _EVENT:
            yield EVENTS[(first - _EVENT) % len(EVENTS)]
        else:
            yield data[at : at + first]
            at += first


def said(*segments: bytes | str) -> bytes:
    """The contrary of `script_of`."""
    octets = b""
    for segment in segments:
        if isinstance(segment, str):
            octets += bytes([_EVENT + EVENTS.index(segment)])
            continue
        for start in range(0, len(segment), _EVENT - 1):
            piece = segment[start : start + _EVENT - 1]
            octets += bytes([len(piece)]) + piece
    return octets


def _play(world: World, client: Any, data: bytes) -> None:
    faults: list[Any] = []

    def observe(event: dict[str, Any]) -> None:
        if event.get("log_failure") is not None:  # other errors are what the log is told of peers
            faults.append(event["log_failure"].getTraceback())

    log.addObserver(observe)
    try:
        for step in script_of(data):
            if isinstance(step, str):
                happen(world, client, step)
            elif step and client.transport.connected and client.transport.ended != "abort":
                client.transport.protocol.dataReceived(step)
                release(client)
        release(client)
        _hang_up(world, client.transport)
    finally:
        log.removeObserver(observe)
    assert not faults, faults


def _hang_up(world: World, transport: FakeTransport) -> None:
    if transport.connected:
        transport.finish()
    for origin in world.origins:
        if origin.connected:
            origin.finish()
    world.advance(11)  # relay_flush
    gateway = world.gateway
    left = gateway.exchanges, gateway.connections, gateway.relays
    assert left == (0, set(), set()), left
    assert [server.leased for server in world.pool.servers] == [0]


def http1(data: bytes) -> None:
    world = World(SETTINGS)
    _play(world, _Http1(world), data)


def http2(data: bytes) -> None:
    world = World(SETTINGS)
    _play(world, Client(world), data)
