"""Owns the form of the results: Markdown, as docs/performance.md has it."""

from __future__ import annotations

from . import results
from .proxies import PROXIES
from .work import GROWING, WORK

REFERENCE = "nginx"
NONE = "-"
MILLI = 1000.0  # microseconds from which on milliseconds read better


class Notes:
    """Why a cell has no figure, numbered as they come."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, why: str) -> str:
        number = self._numbers.setdefault(why, len(self._numbers) + 1)
        return f"{NONE} <sup>{number}</sup>"

    def lines(self) -> list[str]:
        return [f"<sup>{number}</sup> {why}.  " for why, number in self._numbers.items()]


def markdown(document: results.Document) -> str:
    """The table, its footnotes, then what it was measured on."""
    work = {name: document["work"][name] for name in WORK if name in document["work"]}
    if not work:
        return "Nothing was measured."
    names = [
        name
        for name in PROXIES
        if any(name in round_ for entry in work.values() for round_ in entry["rounds"])
    ]
    notes = Notes()
    lines = [_row(["", *(PROXIES[name].title for name in names)])]
    lines.append(_row(["---"] * (1 + len(names))))
    for kind, entry in work.items():
        for row in results.rows(entry):
            title = f"{entry['title']}, {row}" if row else entry["title"]
            lines.append(_row([title, *(_cell(entry, row, name, notes) for name in names)]))
        if kind in GROWING:
            lines += _growth(entry, names)
    return "\n".join([*lines, "", *notes.lines(), "", *_circumstances(document, work, names)])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(entry: results.Entry, row: str, name: str, notes: Notes) -> str:
    value = results.figure(entry, row, name)
    if value is None:
        why = entry["left_out"].get(name)
        return notes.mark(f"{PROXIES[name].title} {why}") if why else NONE
    unit = entry["unit"]
    text = f"{value / MILLI:.2f} ms" if unit == "us" and value >= MILLI else f"{value:.1f} {unit}"
    ratio = results.ratio(entry, row, name, REFERENCE)
    return text if ratio is None or name == REFERENCE else f"{text} ({ratio:.2f})"


def _growth(entry: results.Entry, names: list[str]) -> list[str]:
    """What a request costs with the most open connections beside the fewest, of the same proxy."""
    rows = results.rows(entry)
    if len(rows) < 2:
        return []
    cells = []
    for name in names:
        ratio = results.ratio(entry, rows[-1], name, name, rows[0])
        cells.append(NONE if ratio is None else f"{ratio:.2f} times")
    return [_row([f"the same, {rows[-1]} beside {rows[0]}", *cells])]


def _circumstances(
    document: results.Document, work: dict[str, results.Entry], names: list[str]
) -> list[str]:
    machine, versions = document.get("machine", {}), document.get("versions", {})
    dates = sorted({entry["date"] for entry in work.values()})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    rounds = sorted({len(entry["rounds"]) for entry in work.values()})
    shown = {name: PROXIES[name].title for name in names if versions.get(name)}
    shown |= {"python": "Python", "twisted": "Twisted", "cryptography": "cryptography"}
    programs = ", ".join(f"{title} {versions.get(name)}" for name, title in shown.items())
    return [
        f"{when}, median of {' or '.join(map(str, rounds))} rounds; in parentheses the ratio to"
        f" {REFERENCE}, median of the rounds' ratios. {machine.get('system')},"
        f" Linux {machine.get('kernel')}, {machine.get('processors')} processors"
        f" ({machine.get('processor')}); {programs}.",
    ]
