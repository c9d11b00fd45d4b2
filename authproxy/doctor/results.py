"""Owns what came of a check: a name, a status, words, and the cure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from attrs import asdict, frozen

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"
MOST_WORDS = 1000  # characters of a line, whatever a server sent
STATUSES = (OK, WARNING, FAILED, SKIPPED)


@frozen
class Result:
    """One line of the examination. `cure` are lines; those with four spaces first are to paste."""

    name: str
    status: str
    words: str
    cure: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """name, status, words, cure (a list of lines)."""
        return {**asdict(self), "cure": list(self.cure)}


def ok(name: str, words: str) -> Result:
    """Nothing to do."""
    return _made(name, OK, words)


def warning(name: str, words: str, *cure: str) -> Result:
    """It works, but not as well as it should."""
    return _made(name, WARNING, words, *cure)


def failed(name: str, words: str, *cure: str) -> Result:
    """Somebody will complain of this."""
    return _made(name, FAILED, words, *cure)


def skipped(name: str, why: str, *instead: str) -> Result:
    """It could not be looked at; `instead` is what a person can do."""
    return _made(name, SKIPPED, why, *instead)


def summary(results: Iterable[Result]) -> str:
    """In words: `9 ok, 1 warning, 2 failed, 1 skipped`, without what there is none of."""
    counts = Counter(result.status for result in results)
    parts = []
    for status in STATUSES:
        count = counts[status]
        if count:
            parts.append(f"{count} {status}{'s' if status == WARNING and count > 1 else ''}")
    return ", ".join(parts)


def _made(name: str, status: str, words: str, *cure: str) -> Result:
    lines = tuple(_printable(line) for entry in cure for line in entry.split("\n"))
    return Result(name, status, _printable(words), lines)


def _printable(text: str) -> str:
    """For a terminal: words hold what foreign servers sent."""
    return "".join(c if c.isprintable() else "?" for c in text[:MOST_WORDS])
