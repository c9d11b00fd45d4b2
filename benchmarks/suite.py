"""Owns the order: a work at a time, in rounds; in each round the proxies take turns.

Every measurement starts its proxy anew, and checks that it wrote its access log.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import machine, results
from .load import LoadError
from .proxies import PROXIES, Proxy
from .stage import Stage
from .work import Effort, Figures, Work

SPARE = 500  # descriptors that are no connections


class LeftOut(Exception):
    """A proxy has no part in a work, for this reason."""


@dataclass
class Suite:
    """One run. `failures` are the measurements that went wrong."""

    stage: Stage
    proxies: Sequence[Proxy]
    effort: Effort
    rounds: int
    document: results.Document
    path: Path
    failures: list[str] = field(default_factory=list)

    def run(self, works: Sequence[Work]) -> None:
        """All works; the file is written after each."""
        for work in works:
            why = machine.missing(work.needs) if work.needs else ""
            if why:
                print(f"{work.name}: left out: {why}")
                continue
            self._work(work)

    def _work(self, work: Work) -> None:
        entry = results.entry(work, self.effort, {})
        for number in range(self.rounds):
            measured = {}
            for proxy in self.proxies:
                if proxy.name in entry["left_out"]:
                    continue
                try:
                    measured[proxy.name] = results.plain(self._try(work, proxy))
                except LeftOut as e:
                    entry["left_out"][proxy.name] = str(e)
                except (LoadError, OSError, RuntimeError, subprocess.SubprocessError) as e:
                    entry["left_out"][proxy.name] = "failed"
                    self.failures.append(f"{work.name}: {proxy.title}: {e}")
                    print(f"FAILED: {self.failures[-1]}", flush=True)
            entry["rounds"].append(measured)
            print(f"{work.name}, round {number + 1}: {_line(measured)}", flush=True)
        for name in entry["left_out"]:  # of a proxy that failed, also the rounds before
            for round_ in entry["rounds"]:
                round_.pop(name, None)
        self.document["work"][work.name] = entry
        results.save(self.document, self.path)

    def _try(self, work: Work, proxy: Proxy) -> Figures:
        """Twice, if need be: on a busy machine a program now and then ends before its log is
        written, or comes too late."""
        try:
            return self._measure(work, proxy)
        except LoadError as e:
            print(f"{work.name}: {proxy.title}: {e}. Once more.", flush=True)
            return self._measure(work, proxy)

    def _measure(self, work: Work, proxy: Proxy) -> Figures:
        if work.tls and proxy.cannot:
            raise LeftOut(proxy.cannot)
        origin = self.stage.ours if work.ours else self.stage.small
        running = proxy.start(self.stage, origin, tls=work.tls)
        try:
            if work.http2 and not running.speaks_http2():
                raise LeftOut("offers no HTTP/2")
            figures = work.measure(running, self.effort)
        finally:
            running.child.stop()
        if not running.log.stat().st_size:  # it has written its last batch now
            raise LoadError("it wrote no access log")
        return figures


def affordable(effort: Effort, descriptors: int) -> Effort:
    """Without those numbers of connections for which the descriptors would not last: a proxy may
    keep two for each."""
    most = (descriptors - SPARE) // 2
    for count in effort.open:
        if count > most:
            print(f"{count:,} open connections: left out: raise the limit (ulimit -n) first")
    return replace(effort, open=tuple(count for count in effort.open if count <= most))


def installed(names: Sequence[str]) -> tuple[list[Proxy], list[str]]:
    """Those of the proxies that are here, and a line for each that is not."""
    chosen = [PROXIES[name] for name in names]
    why = {proxy.name: machine.missing(proxy.program) for proxy in chosen if proxy.program}
    return [proxy for proxy in chosen if not why.get(proxy.name)], [w for w in why.values() if w]


def _line(measured: dict[str, dict[str, dict[str, float]]]) -> str:
    return "; ".join(
        f"{name} "
        + ", ".join(f"{row + ' ' if row else ''}{one['value']:.1f}" for row, one in figures.items())
        for name, figures in measured.items()
    )
