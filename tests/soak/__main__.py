"""Mixed traffic through a real proxy, with octets that are known beforehand: script/soak.

Everything is on loopback, ends by itself and leaves no process. Exits 0 if no octet was wrong, no
request was lost outside the faults that were injected, memory was flat and every descriptor was
given back.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time

from benchmarks.children import family

from ..e2e.processes import Stage, until
from .faults import Faults
from .figures import Figures
from .record import Record
from .traffic import KINDS, Client

SAMPLES = 200  # of memory, at most in a run
SHOWN = 20  # of what went wrong


def main(arguments: list[str] | None = None) -> int:
    """Run it, print what was seen. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="script/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--workers", type=int, default=2, help="of the proxy")
    parser.add_argument("--clients", type=int, default=1, help="of each kind")
    parser.add_argument("--faults", type=float, default=8.0, help="seconds between two, 0: none")
    parser.add_argument("--kill-workers", action="store_true", help="among the faults")
    chosen = parser.parse_args(arguments)
    stage = Stage()
    try:
        return soak(stage, chosen)
    finally:
        stage.close()


def soak(stage: Stage, chosen: argparse.Namespace) -> int:
    """One run. Returns the exit status."""
    record = Record()
    faults = Faults(stage, record, chosen.workers, chosen.kill_workers)
    figures = Figures(faults.proxy.pid)
    _, at_first = figures.sample()
    traffic = threading.Event()
    threads = [
        threading.Thread(target=Client(stage, faults.proxy, record, traffic).run, args=(kind,))
        for kind in KINDS * chosen.clients
    ]
    seconds = 60 * chosen.minutes
    sampling = figures.run, (traffic, max(seconds / SAMPLES, 0.2))
    threads.append(threading.Thread(target=sampling[0], args=sampling[1]))
    if chosen.faults:
        threads.append(threading.Thread(target=faults.run, args=(traffic, chosen.faults)))
    for thread in threads:
        thread.start()
    try:
        _watch(seconds, record)
    finally:
        traffic.set()
        for thread in threads:
            thread.join()
    return _judge(record, faults, figures, at_first)


def _watch(seconds: float, record: Record) -> None:
    """Wait, and say once a minute how it goes."""
    end = time.monotonic() + seconds
    told = 0
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 60))
        print(_summary(record), flush=True)
        sentences = record.wrong + record.lost
        if told < len(sentences) <= SHOWN:  # not only at the end of hours
            print(*sentences, sep="\n", flush=True)
            told = len(sentences)
    # On a busy machine a short run may be too short for the slowest of them.
    until(lambda: not _unanswered(record), "an answer to traffic of every kind")


def _unanswered(record: Record) -> list[str]:
    """The kinds of traffic that nothing was answered of."""
    return [kind.__name__ for kind in KINDS if not record.done[kind.__name__]]


def _summary(record: Record) -> str:
    return (
        f"{record.done.total()} answers, {record.octets >> 20} MiB,"
        f" {record.forgiven.total()} failures in {len(record.windows)} windows of"
        f" {record.fault_seconds:.1f} s,"
        f" {len(record.lost)} lost, {len(record.wrong)} wrong"
    )


def _judge(record: Record, faults: Faults, figures: Figures, at_first: int) -> int:
    problems = []
    try:
        # Upstream connections, too: the pool's idle timeout is short here.
        until(lambda: figures.sample()[1] <= at_first + 2, "every descriptor is given back")
    except AssertionError as e:
        problems.append(f"{e}: {figures.samples[-1][2]} are open, {at_first} were at first")
    said = str(figures)
    family_before = list(family(figures.pid))
    faults.proxy.signal(signal.SIGTERM)
    faults.proxy.wait()
    record.doubled(faults.noted, faults.access, killed=faults.done["worker kills"] > 0)
    if "Traceback" in faults.proxy.stderr:
        problems.append("a traceback in the log:\n" + faults.proxy.stderr[-4000:])
    if figures.grown:
        problems.append("memory has grown")
    problems += record.wrong[:SHOWN] + [f"lost: {each}" for each in record.lost[:SHOWN]]
    print(_summary(record))
    print("Answers:", ", ".join(f"{count} {kind}" for kind, count in sorted(record.done.items())))
    print(f"Failed in the windows: {dict(record.forgiven)}. Done: {faults}.")
    print(f"Of {len(family_before)} processes: {said}.")
    print(*problems or ["All is well."], sep="\n", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
