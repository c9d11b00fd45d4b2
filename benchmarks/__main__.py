"""The command line of the suite: script/bench [options].

CPU time (memory, latency) per unit of work of authproxy beside nginx, HAProxy, Caddy and
twisted.web, on this machine, over loopback. Stops by itself and leaves only the file of results.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from . import machine, micro, results, table, workers
from .proxies import PROXIES
from .stage import ROOT, Stage
from .suite import Suite, affordable, installed
from .work import QUICK, WORK, Effort

LATEST = ROOT / "benchmarks" / "results" / "latest.json"


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="script/bench",
        description=(__doc__ or "").partition("\n\n")[2],
        epilog=f"Work: {', '.join(WORK)}. Proxies: {', '.join(PROXIES)}.",
    )
    parser.add_argument("--rounds", type=int, default=3, help="median of so many; 3")
    parser.add_argument("--seconds", type=float, help="of one measurement; 4")
    parser.add_argument("--only", type=_names(WORK), default=list(WORK), metavar="WORK[,WORK]")
    parser.add_argument(
        "--proxies", type=_names(PROXIES), default=list(PROXIES), metavar="PROXY[,PROXY]"
    )
    parser.add_argument(
        "--json", type=Path, default=LATEST, metavar="FILE",
        help="results go there; work that it has and that is not measured now stays",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="little of everything: a test run")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="measure nothing: the table of these results"
    )
    parser.add_argument("--micro", action="store_true", help="the micro benchmarks instead")
    parser.add_argument("--workers", action="store_true", help="one worker and two instead")
    return parser


def _names(known: Mapping[str, object]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


def main() -> int:
    arguments = options().parse_args()
    if arguments.markdown:
        print(table.markdown(results.load(arguments.markdown)))
        return 0
    if arguments.micro:
        micro.main(1 if arguments.quick else micro.RUNS)
        return 0
    if arguments.workers:
        quick = arguments.quick
        workers.main(1 if quick else arguments.rounds, 0.2 if quick else arguments.seconds or 4.0)
        return 0
    return measure(arguments)


def measure(arguments: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is stopped
    effort = QUICK if arguments.quick else Effort()
    if arguments.seconds:
        effort = replace(effort, seconds=arguments.seconds)
    effort = affordable(effort, machine.raise_limits())
    proxies, missing = installed(arguments.proxies)
    for line in missing:
        print(f"Left out: {line}")
    document = results.begin(arguments.json)
    document["missing"] = missing
    with Stage() as stage:
        if stage.proxy_core == stage.other_core:
            print("One processor: proxies share it with origins and load.")
        os.sched_setaffinity(0, {stage.other_core})
        machine.wake_in_time()
        suite = Suite(stage, proxies, effort, arguments.rounds, document, arguments.json)
        suite.run([WORK[name] for name in arguments.only])
    print(f"\n{table.markdown(document)}\n\nResults are in {arguments.json}.")
    for failure in suite.failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if suite.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
