"""script/fuzz: one target for as long as asked, guided by coverage where atheris is installed.

    script/fuzz TARGET [--minutes N] [--seed N] [--plain] [--into DIRECTORY] [--corpus DIRECTORY]

Ends by itself. What makes the target raise is written into the directory (tests/fuzz/found by
default; git ignores it), and the status is 1. What reached new code is kept in `--corpus`, from
where the next run goes on; without it, it is forgotten. A finding becomes a file of tests/corpus, or a test
of its own, before it is mended.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
import traceback
from pathlib import Path

FOUND = Path(__file__).parent / "found"
_SIZE = 4096  # octets of an input


def main() -> int:
    """Run; 1 if something was found."""
    parser = argparse.ArgumentParser(prog="script/fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("target")
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="without coverage")
    parser.add_argument("--into", type=Path, default=FOUND)
    parser.add_argument("--corpus", type=Path)
    chosen = parser.parse_args()
    chosen.into.mkdir(parents=True, exist_ok=True)
    if not chosen.plain:
        try:
            import atheris  # noqa: F401, PLC0415 (not everywhere)
        except ImportError:
            print("atheris is not installed: without coverage.", file=sys.stderr)
        else:
            return _guided(chosen)
    return _plain(chosen)


def _plain(chosen: argparse.Namespace) -> int:
    from .targets import TARGETS, mutations  # noqa: PLC0415 (before atheris nothing is imported)

    target = TARGETS[chosen.target]
    end = time.monotonic() + chosen.minutes * 60
    found: set[str] = set()
    count = 0
    for octets in mutations(target.seeds(), chosen.seed):
        count += 1
        try:
            target.run(octets)
        except Exception:
            _keep(chosen, octets, found)
        if time.monotonic() > end:
            break
    print(f"{chosen.target}: {count} inputs, {len(found)} kinds of findings.")
    return 1 if found else 0


def _keep(chosen: argparse.Namespace, octets: bytes, found: set[str]) -> None:
    """Write an input down, once for each place where it ends."""
    where = "\n".join(traceback.format_exc().split("\n")[-4:-2])
    if where in found:
        return
    found.add(where)
    name = f"{chosen.target}-{hashlib.sha256(octets).hexdigest()[:12]}"
    (chosen.into / name).write_bytes(octets)
    print(f"{chosen.into / name}\n{traceback.format_exc()}", file=sys.stderr)


def _guided(chosen: argparse.Namespace) -> int:
    """atheris ends the process: with 0 at the end of the time, else at the first finding."""
    import atheris  # noqa: PLC0415

    with atheris.instrument_imports(include=["authproxy"]):
        from .targets import TARGETS  # noqa: PLC0415
    target = TARGETS[chosen.target]
    corpus = chosen.corpus or Path(tempfile.mkdtemp(prefix="authproxy-fuzz-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, octets in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(octets)
    options = [
        f"-max_total_time={round(chosen.minutes * 60)}",
        f"-max_len={_SIZE}",
        f"-seed={chosen.seed}",
        f"-artifact_prefix={chosen.into}/{chosen.target}-",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        "-verbosity=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
