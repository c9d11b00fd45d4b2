"""Owns the form of the results: Markdown, as docs/performance.md has it."""

from __future__ import annotations

from . import results
from .proxies import PROXIES

REFERENCE, OURS = "nginx", "authproxy"
GROWING = ("open", "idle")  # works whose rows are numbers of connections
MICROSECONDS = 1000.0  # from here on, milliseconds read better


def markdown(document: results.Document) -> str:
    """The table, its footnotes, then what it was measured on."""
    names = [name for name in PROXIES if any(_measured(document, name))]
    notes: dict[str, None] = {}
    heads = ["", *(_heading(document, name) for name in names)]
    lines = [_row(heads), _row(["---"] * len(heads))]
    for work, entry in document["work"].items():
        for row in results.rows(entry):
            title = f"{entry['title']}{_suffix(work, row)}"
            cells = [_cell(entry, row, name, notes) for name in names]
            lines.append(_row([title, *cells]))
    lines += ["", *_growth(document, names)]
    lines += [f"- {note}" for note in notes] + [""] if notes else []
    return "\n".join([*lines, *_circumstances(document)])


def _measured(document: results.Document, name: str) -> list[bool]:
    return [name in round_ for entry in document["work"].values() for round_ in entry["rounds"]]


def _heading(document: results.Document, name: str) -> str:
    title = PROXIES[name].title
    version = document.get("versions", {}).get("twisted" if name == "twisted" else name, "")
    return title if name == OURS or not version else f"{title} {version}"


def _suffix(work: str, row: str) -> str:
    if not row:
        return ""
    return f": {row}" if work in GROWING else f", {row}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(entry: results.Entry, row: str, name: str, notes: dict[str, None]) -> str:
    value = results.figure(entry, row, name)
    if value is None:
        why = entry["left_out"].get(name)
        if why:
            notes[f"–: {PROXIES[name].title} {why}."] = None
        return "–"
    text = _text(value, entry["unit"])
    ratio = results.ratio(entry, row, name, REFERENCE)
    return text if ratio is None or name == REFERENCE else f"{text} ({ratio:.2f})"


def _text(value: float, unit: str) -> str:
    if unit == "us" and value >= MICROSECONDS:
        return f"{value / 1000:.2f} ms"
    return f"{value:.1f} {unit}"


def _growth(document: results.Document, names: list[str]) -> list[str]:
    """How a proxy's own cost grows with the number of open connections."""
    works = [work for work in GROWING if work in document["work"]]
    lines = []
    for work in works:
        entry = document["work"][work]
        rows = results.rows(entry)
        if len(rows) < 2:
            continue
        cells = [
            "–" if (ratio := results.ratio(entry, rows[-1], name, name, rows[0])) is None
            else f"{ratio:.2f}"
            for name in names
        ]  # fmt: skip
        title = f"{entry['title']}: {rows[-1]} beside {rows[0]}, of the same proxy"
        lines.append(_row([title, *cells]))
    if not lines:
        return []
    return [_row(["Growth", *names]), _row(["---"] * (len(names) + 1)), *lines, ""]


def _circumstances(document: results.Document) -> list[str]:
    machine, versions = document.get("machine", {}), document.get("versions", {})
    entries = document["work"].values()
    dates = sorted({entry["date"] for entry in entries})
    rounds = sorted({len(entry["rounds"]) for entry in entries})
    if not entries:
        return ["Nothing was measured."]
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return [
        f"Measured {when}, median of {'/'.join(map(str, rounds))} rounds, in parentheses the ratio"
        f" to {REFERENCE} (median of the rounds' ratios).",
        f"{machine.get('system')}, Linux {machine.get('kernel')}, {machine.get('processors')}"
        f" processors ({machine.get('processor')}); Python {versions.get('python')},"
        f" Twisted {versions.get('twisted')}, cryptography {versions.get('cryptography')}.",
    ]
