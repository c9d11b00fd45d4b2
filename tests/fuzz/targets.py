"""Which targets there are, what each begins with, and a mutator that knows nothing of coverage."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..downstream.test_http2_fuzz import block, frame
from ..e2e.processes import ROOT
from ..test_guards import SPELLINGS
from ..wire.corpus import load
from . import connections, parsers

_LARGE = 4096  # octets; larger samples exist for the sake of a limit
_PIECES = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b",", b";", b"0", b"%2e", b"%", b"/", b"..", b"\t",
    b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"\xff", b"\x80", b"[", b"]",
    b"0\r\n\r\n", b"ffffffffffffffff", b"10.0.0.2", b"::1", b"HTTP/1.1", b"Connection: close\r\n",
)  # fmt: skip


class Target(NamedTuple):
    """run raises nothing; seeds are where mutation begins."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def _samples(*directories: str) -> list[bytes]:
    octets = [sample.octets for directory in directories for sample in load(directory)]
    return [some for some in octets if len(some) <= _LARGE]


def _cut(octets: list[bytes]) -> list[bytes]:
    return [b"\x80" + some for some in octets]


def _requests() -> list[bytes]:
    return _cut(_samples("requests/valid", "requests/invalid"))


def _responses() -> list[bytes]:
    return _cut(_samples("responses/valid", "responses/invalid"))


def _chunks() -> list[bytes]:
    return _cut(_samples("bodies/valid", "bodies/invalid"))


def _proxy_headers() -> list[bytes]:
    second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(range(12))
    return _cut(
        [
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\n",
            b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
            b"PROXY UNKNOWN\r\n",
            second,
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        ]
    )


def _lists() -> list[bytes]:
    return [
        b"192.0.2.1, 10.0.0.2:443, [2001:db8::1]:1", b"::ffff:10.0.0.2\n192.0.2.1", b"fe80::1%eth0"
    ]  # fmt: skip


def _paths() -> list[bytes]:
    return [target[1:] for target, _ in SPELLINGS if len(target) < 200]


def _configurations() -> list[bytes]:
    text = (ROOT / "etc" / "authproxy.toml").read_bytes()
    unlocked = text.replace(b"\n#", b"\n")
    lines = [line for line in unlocked.split(b"\n") if b" = " in line]
    return [text, b'[[site]]\nupstream = "http://127.0.0.1:9000"\n', *lines]


def _http1() -> list[bytes]:
    return [
        connections.said(octets, event, octets)
        for octets in _samples("requests/valid", "requests/invalid")
        for event in ("ok", "more", "switch", "close")
    ]


def _http2() -> list[bytes]:
    head = frame(1, 5, 1, block())
    post = frame(1, 4, 1, block(method=b"POST"))
    said = connections.said
    return [
        said(head, "ok", frame(1, 5, 3, block()), "more", frame(3, 0, 3, bytes(4))),
        said(post, frame(0, 0, 1, b"hello"), frame(0, 1, 1, b""), "ok"),
        said(frame(1, 1, 1, block()[:3]), frame(9, 4, 1, block()[3:]), "full", "ok", "empty"),
        said(frame(4, 0, 0, b"\0\4\0\0\0\0"), head, "ok", frame(8, 0, 1, b"\0\0\0\5"), "wait"),
        said(frame(6, 0, 0, bytes(8)), frame(7, 0, 0, bytes(8)), head, "drain", "close"),
    ]


TARGETS = {
    "request-head": Target(parsers.request_head, _requests),
    "response-head": Target(parsers.response_head, _responses),
    "chunks": Target(parsers.chunks, _chunks),
    "proxy-header": Target(parsers.proxy_header, _proxy_headers),
    "trust-lists": Target(parsers.trust_lists, _lists),
    "spellings": Target(parsers.spellings, _paths),
    "configuration": Target(parsers.configuration, _configurations),
    "http1": Target(connections.http1, _http1),
    "http2": Target(connections.http2, _http2),
}


def mutations(seeds: list[bytes], seed: int) -> Iterator[bytes]:
    """The seeds, then mutations of them without an end; the same ones for the same `seed`."""
    yield from seeds
    chance = random.Random(seed)
    while True:
        octets = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            _mutate(octets, chance, seeds)
        yield bytes(octets)


def _mutate(octets: bytearray, chance: random.Random, seeds: list[bytes]) -> None:
    at = chance.randrange(len(octets) + 1)
    kind = chance.randrange(6)
    if kind == 0 and at < len(octets):
        octets[at] = chance.randrange(256)
    elif kind == 1 and at < len(octets):
        octets[at] ^= 1 << chance.randrange(8)
    elif kind == 2:
        del octets[at : at + chance.randrange(1, 8)]
    elif kind == 3:
        octets[at:at] = chance.choice(_PIECES)
    elif kind == 4:
        octets[at:at] = octets[at : at + chance.randrange(1, 40)]
    else:
        other = chance.choice(seeds)
        octets[at:] = other[chance.randrange(len(other) + 1) :]
