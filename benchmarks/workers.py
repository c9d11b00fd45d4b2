"""Owns the question what workers bring: what does a unit cost with one of them, and with two?

A machine with two processors has none left for load and origin once two workers are busy, so this
is accounting: the proxy's processes share one processor, where they are as busy as they can be, and
load and origin have the other. If a unit costs two workers together as much as one alone, then two
processors carry twice as much: 2 x (cost with one) / (cost with two). That is a lower bound, since
two workers on one processor also push each other out of its caches.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from functools import partial

from . import configurations, machine
from .children import Child, family
from .load import programs
from .load.handshakes import handshakes
from .proxies import Place, authproxy_command
from .sockets import client_context
from .stage import ROOT, Stage

COUNTS = (1, 2)
CONNECTIONS = 64  # in all, so that setting them up costs the same: enough for both to be busy


def main(rounds: int, seconds: float) -> None:
    """Measure and print."""
    machine.raise_limits()
    stage = Stage()
    os.sched_setaffinity(0, {stage.other_core})
    figures: dict[str, dict[int, list[float]]] = {}
    shares: list[float] = []
    with stage:
        for number in range(rounds):
            for count in COUNTS:
                log = stage.file("authproxy.log", "")
                place = Place(stage, machine.free_port(), stage.small.tls, True, log)
                command = authproxy_command(place, configurations.AUTHPROXY, workers=count)
                child = stage.start(command, stage.proxy_core, place.port, PYTHONPATH=str(ROOT))
                child.wait_for(place.port, client_context())
                for name, load in _loads(place.port, seconds).items():
                    cost, share = _cost(child, load)
                    figures.setdefault(name, {}).setdefault(count, []).append(cost)
                    if count > 1:
                        shares.append(share)
                child.stop()
            print(f"round {number + 1} of {rounds}", flush=True)
    for name, costs in figures.items():
        one, two = (statistics.median(costs[count]) for count in COUNTS)
        ratio = statistics.median(a / b for a, b in zip(costs[1], costs[2], strict=True))
        print(f"{name}: one worker {one:.1f} us, two {two:.1f} us: {2 * ratio:.2f} times as much")
    print(f"the busier of two workers did {max(shares):.0%} at most")


def _loads(port: int, seconds: float) -> dict[str, Callable[[], float]]:
    url = f"https://127.0.0.1:{port}/"
    return {
        "small GET, TLS on both sides": partial(programs.wrk, url, CONNECTIONS, seconds=seconds),
        "full TLS handshake with one GET": partial(handshakes, port, seconds),
    }


def _cost(child: Child, load: Callable[[], float]) -> tuple[float, float]:
    """Microseconds a unit of all processes, and the busiest worker's share of the workers'."""
    before, each = child.cpu(), _by_process(child)
    units = load()
    spent = child.cpu() - before
    workers = [now - each.get(pid, 0.0) for pid, now in _by_process(child).items()]
    return spent / units * 1e6, max(workers) / (sum(workers) or 1.0)


def _by_process(child: Child) -> dict[int, float]:
    """Seconds of each worker until now; of the one process where it does all."""
    pids = list(family(child.pid))
    return {pid: _seconds(pid) for pid in (pids[1:] or pids)}


def _seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
