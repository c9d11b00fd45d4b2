"""Owns the kinds of work: what each needs, how it is measured, which figures it gives.

A measurement warms the proxy up, takes its processor time, lets the load run, takes it again, and
divides by what the load completed. Setting up (connecting, handshakes) is not in it, except where
it is the work.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .load import LoadError, bulk, programs
from .load.handshakes import handshakes
from .load.requests import Clients
from .load.websockets import Sockets
from .proxies import Running

BUSY = 32  # connections of wrk, or of WebSockets, that are busy all the time
LATENCY_CONNECTIONS = 50
IN_FLIGHT = 10  # requests at the same time, however many connections are open
MIB = 1 << 20
SETTLED = 0.3  # seconds until a proxy has done what follows a connection


@dataclass(frozen=True)
class Effort:
    """How much of everything.

    `seconds` is the length of one measurement, half of it where a round has several of a proxy.
    """

    seconds: float = 4.0
    warm_up: float = 1.0  # 0: none
    octets: int = 100 * MIB
    idle: int = 1000
    open: tuple[int, ...] = (10, 100, 1000, 5000)
    rate: float = 1000.0


QUICK = Effort(seconds=0.2, warm_up=0.0, octets=4 * MIB, idle=20, open=(10, 40))


@dataclass(frozen=True)
class Figure:
    """One figure of one proxy in one round. `units` is what it was divided by; `busy` is the share
    of its processor that the proxy used meanwhile: much below 1, the load was the slower part."""

    value: float
    units: int = 0
    busy: float = 0.0


Figures = dict[str, Figure]


@dataclass(frozen=True)
class Work:
    """A kind of work. Of several figures each has a name, in the order in which they are shown.

    `needs` is a program of the load. `ours`: its origin is ours, not that of small requests.
    """

    name: str
    title: str
    unit: str
    measure: Callable[[Running, Effort], Figures]
    tls: bool = True
    ours: bool = True
    needs: str = ""
    http2: bool = False


def cost(proxy: Running, load: Callable[[], float]) -> Figure:
    """Microseconds of the proxy's processor time for each unit that the load completes."""
    before, began = proxy.child.cpu(), time.monotonic()
    units = load()
    spent, took = proxy.child.cpu() - before, time.monotonic() - began
    if not units:
        raise LoadError("nothing was completed")
    return Figure(spent / units * 1e6, round(units), spent / took)


def _small(proxy: Running, effort: Effort, *, vary: bool = False) -> Figures:
    script = None
    if vary:
        script = Path(proxy.log).with_name("vary.lua")
        script.write_text(programs.VARY)
    load = partial(programs.wrk, _url(proxy), BUSY, script=script)
    if effort.warm_up:
        load(seconds=effort.warm_up)
    return {"": cost(proxy, partial(load, seconds=effort.seconds))}


def _url(proxy: Running) -> str:
    return f"{'https' if proxy.tls else 'http'}://127.0.0.1:{proxy.port}/"


def _handshakes(proxy: Running, effort: Effort) -> Figures:
    handshakes(proxy.port, effort.warm_up)
    return {"": cost(proxy, lambda: handshakes(proxy.port, effort.seconds))}


def _http2(proxy: Running, effort: Effort) -> Figures:
    if effort.warm_up:
        programs.h2load(_url(proxy), effort.warm_up)
    return {"": cost(proxy, lambda: programs.h2load(_url(proxy), effort.seconds))}


def _bulk(proxy: Running, effort: Effort, *, move: Callable[[int, int], None]) -> Figures:
    """The whole content at least once, and again until the time is over. Units are MiB."""
    move(proxy.port, effort.octets // 10)

    def load() -> float:
        end = time.monotonic() + effort.seconds
        moved = 0
        while not moved or time.monotonic() < end:
            move(proxy.port, effort.octets)
            moved += effort.octets
        return moved / MIB

    return {"": cost(proxy, load)}


def _messages(proxy: Running, effort: Effort, *, size: int) -> Figures:
    sockets = Sockets(proxy.port, BUSY, size)
    try:
        sockets.run(effort.warm_up)
        return {"": cost(proxy, lambda: sockets.run(effort.seconds))}
    finally:
        sockets.close()


def _memory(proxy: Running, effort: Effort) -> Figures:
    """kB for each idle WebSocket. What the first ones cost once is paid before."""
    Sockets(proxy.port, max(effort.idle // 10, 1), 100).close()
    time.sleep(SETTLED)
    before = proxy.child.memory()
    sockets = Sockets(proxy.port, effort.idle, 100)
    try:
        time.sleep(SETTLED)
        grown = proxy.child.memory() - before
    finally:
        sockets.close()
    return {"": Figure(grown / effort.idle / 1000, effort.idle)}


def _latency(proxy: Running, effort: Effort) -> Figures:
    clients = Clients(proxy.port)
    try:
        clients.grow(LATENCY_CONNECTIONS)
        clients.at_rate(effort.rate, effort.warm_up)
        took: list[float] = []

        def load() -> int:
            took.extend(clients.at_rate(effort.rate, effort.seconds))
            return len(took)

        spent = cost(proxy, load)
    finally:
        clients.close()
    hundredths = statistics.quantiles(took, n=100, method="inclusive")
    return {
        "p50": Figure(hundredths[49] * 1e6, len(took), spent.busy),
        "p99": Figure(hundredths[98] * 1e6, len(took), spent.busy),
        "CPU": spent,
    }


def _open(proxy: Running, effort: Effort) -> Figures:
    """The same number of requests in flight, with more and more connections open."""
    figures: Figures = {}
    clients = Clients(proxy.port)
    try:
        for count in effort.open:
            clients.grow(count)
            clients.in_turn(IN_FLIGHT, max(effort.warm_up, count / 2500))
            load = partial(clients.in_turn, IN_FLIGHT, effort.seconds / 2)
            figures[f"{count:,} open"] = cost(proxy, load)
    finally:
        clients.close()
    return figures


def _idle(proxy: Running, effort: Effort) -> Figures:
    """wrk on ten connections, beside more and more that had one request and are silent since."""
    figures: Figures = {}
    clients = Clients(proxy.port)
    try:
        for count in effort.open:
            clients.grow(count - IN_FLIGHT)
            load = partial(programs.wrk, _url(proxy), IN_FLIGHT)
            if effort.warm_up:
                load(effort.warm_up)
            figures[f"{count:,} open"] = cost(proxy, partial(load, effort.seconds / 2))
    finally:
        clients.close()
    return figures


GROWING = ("open", "idle")  # their figures are of more and more open connections
WORK = {
    work.name: work
    for work in (
        Work("plain", "small GET, plain on both sides", "us", _small,
             tls=False, ours=False, needs="wrk"),
        Work("tls", "small GET, TLS on both sides", "us", _small, ours=False, needs="wrk"),
        Work("vary", "the same, no two requests with the same fields", "us",
             partial(_small, vary=True), ours=False, needs="wrk"),
        Work("handshake", "full TLS handshake with one GET", "us", _handshakes, ours=False),
        Work("http2", "small GET over HTTP/2", "us", _http2,
             ours=False, needs="h2load", http2=True),
        Work("download", "download of 100 MiB, a MiB", "us", partial(_bulk, move=bulk.download)),
        Work("upload", "upload of 100 MiB, a MiB", "us", partial(_bulk, move=bulk.upload)),
        Work("ws-small", "WebSocket message of 100 bytes, there and back", "us",
             partial(_messages, size=100)),
        Work("ws-large", "WebSocket message of 64 KiB, there and back", "us",
             partial(_messages, size=65536)),
        Work("ws-memory", "memory of an idle WebSocket", "kB", _memory),
        Work("latency", "small GET at 1,000 requests a second", "us", _latency, ours=False),
        Work("open", "small GET, ten in flight, on all connections in turn", "us", _open,
             ours=False),
        Work("idle", "small GET on ten connections, the others idle", "us", _idle,
             ours=False, needs="wrk"),
    )
}  # fmt: skip
