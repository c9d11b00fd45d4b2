"""All tests, shared by as many processes as there are processors, up to MOST:

    python -m tests.shares

Each process is trial with one suite, which takes the next module whenever it is done with one. The
modules wait in a pipe as records of one width, so that each read gets one whole, whoever reads.
A line on stderr says when a module is done; what trial says of each share follows at the end, and
then one line as trial's, with the sums.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.trial.itrial import ITestCase
from twisted.trial.runner import TestLoader, TestSuite
from twisted.trial.unittest import decorate

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / ".venv"
QUEUE = "AUTHPROXY_TESTS_QUEUE"
MOST = 4  # of more, the last would wait for the longest module
WIDTH = 128  # octets of a record; all records fit into a pipe, which Linux gives 65,536
# Begun first, so that no process is left alone with one of them at the end. All others follow by
# name.
LONGEST = (
    "tests.e2e.test_process",
    "tests.test_bench",
    "tests.e2e.test_doctor",
    "tests.e2e.test_workers",
    "tests.e2e.test_reload",
    "tests.e2e.test_browser_websockets",
)


def modules() -> list[str]:
    """What `trial tests` would find."""
    found = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in Path(ROOT, "tests").rglob("test_*.py")
        if (path.parent / "__init__.py").exists()
    }
    first = [name for name in LONGEST if name in found]
    return first + sorted(found.difference(first))


class Share(TestSuite):
    """Modules as they come out of the pipe."""

    def __init__(self, queue: int) -> None:
        super().__init__()
        os.set_inheritable(queue, False)  # not for what the tests start
        self._queue = queue

    def _names(self) -> Iterator[str]:
        while record := os.read(self._queue, WIDTH):
            yield record.decode().rstrip()

    def run(self, result: Any, debug: bool = False) -> Any:
        def interrupted(*_: object) -> None:
            result.stop()  # trial takes an interrupt for the fault of one test, and goes on
            raise KeyboardInterrupt

        signal.signal(signal.SIGINT, interrupted)
        for name in self._names():
            began, before = time.monotonic(), result.testsRun
            known = len(result.failures), len(result.errors)
            decorate(TestLoader().loadByName(name, recurse=True), ITestCase).run(result)
            tests = result.testsRun - before
            line = f"{name}: {tests} tests, {time.monotonic() - began:.0f} s"
            wrong = [*result.failures[known[0] :], *result.errors[known[1] :]]
            if wrong:
                line += f", {len(wrong)} FAILED"
            # The whole is trial's, at the end; until then, and if it comes to none, it is this.
            said = [f"    {test.id()}: {failure.getErrorMessage()}" for test, failure in wrong]
            say("\n".join([line, *said, ""]).encode())
            if result.shouldStop:
                break
        return result


def say(line: bytes) -> None:
    """At once, and in one piece: the others say theirs."""
    os.write(2, line)


def test_suite() -> TestSuite:
    """What trial asks this module for."""
    return Share(int(os.environ[QUEUE]))


def share(number: int, queue: int) -> tuple[subprocess.Popen[bytes], Path]:
    """A process of it, with the file that it writes."""
    said = PLACE / f"tests-{number}.txt"
    command = [
        sys.executable, "-m", "twisted.trial", "--reporter=text",
        f"--temp-directory={PLACE / f'trial-{number}'}", "tests.shares",
    ]  # fmt: skip
    with said.open("wb") as stdout:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {QUEUE: str(queue)}, stdin=subprocess.DEVNULL,
            stdout=stdout, pass_fds=[queue],
        )  # fmt: skip
    return process, said


def total(texts: list[str]) -> Counter[str]:
    """The sums of trial's last lines: "PASSED (skips=2, successes=70)" and the like."""
    sums: Counter[str] = Counter()
    for text in texts:
        for counted in re.findall(r"(?m)^(?:PASSED|FAILED) \((.*)\)$", text)[-1:]:
            sums.update({word: int(n) for word, n in re.findall(r"(\w+)=(\d+)", counted)})
    return sums


def main() -> int:
    """Run them. The exit status."""
    take, put = os.pipe()
    os.write(put, b"".join(name.encode().ljust(WIDTH) for name in modules()))
    os.close(put)
    count = min(os.cpu_count() or 1, MOST)
    shares = [share(number + 1, take) for number in range(count)]
    os.close(take)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        for process, _ in shares:
            while process.returncode is None:
                # A SIGINT is theirs too: they end with what they have.
                with suppress(KeyboardInterrupt):
                    process.wait()
    finally:
        for process, _ in shares:
            process.terminate()  # nothing, where it has ended
    texts = [said.read_text(errors="replace") for _, said in shares]
    sums = total(texts)
    for (process, said), text in zip(shares, texts, strict=True):
        print(f"\n== {said.stem}\n{text}")
        if process.returncode not in {0, 1}:
            print(f"{said.stem} ended with status {process.returncode}.")
            sums["errors"] += 1
    failed = any(process.returncode for process, _ in shares)
    counted = ", ".join(f"{word}={number}" for word, number in sorted(sums.items()) if number)
    print(f"== together\n{'FAILED' if failed else 'PASSED'} ({counted})")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
