"""Owns figures: one JSON file, in which each work has the proxies' figures round by round.

    {"machine": {...}, "versions": {...}, "missing": [...], "work": {NAME: {
        "title": ..., "unit": ..., "date": ..., "effort": {...}, "left_out": {PROXY: WHY},
        "rounds": [{PROXY: {ROW: {"value": ..., "units": ..., "busy": ...}}}]}}}

Ratios are never stored: a ratio of two proxies is the median of its rounds' ratios, so what changed
on the machine between two rounds is in neither.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import machine
from .work import Effort, Figures, Work

Document = dict[str, Any]
Entry = dict[str, Any]  # of one work


def load(path: Path) -> Document:
    """What the file has; an empty document where there is none."""
    return json.loads(path.read_text()) if path.exists() else {"work": {}}


def begin(path: Path) -> Document:
    """The document to add to: the file's, if this machine and these programs were measured."""
    new: Document = {"machine": machine.describe(), "versions": machine.versions(), "work": {}}
    old = load(path)
    if all(old.get(key) == new[key] for key in ("machine", "versions")):
        new["work"] = old["work"]
    elif old["work"]:
        print(f"{path} is of another machine or other versions: it begins anew.")
    return new


def save(document: Document, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(path.name + ".new")
    whole.write_text(json.dumps(document, indent=1) + "\n")
    os.replace(whole, path)


def entry(work: Work, effort: Effort, left_out: dict[str, str]) -> Entry:
    """A work's entry, before its first round."""
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return {
        "title": work.title,
        "unit": work.unit,
        "date": today.isoformat(),
        "effort": asdict(effort) | {"open": list(effort.open)},
        "left_out": left_out,
        "rounds": [],
    }


def plain(figures: Figures) -> dict[str, dict[str, float]]:
    """As JSON has it."""
    return {row: asdict(figure) for row, figure in figures.items()}


def rows(entry: Entry) -> list[str]:
    """The names of a work's figures, in order."""
    found: dict[str, None] = {}
    for round_ in entry["rounds"]:
        for figures in round_.values():
            found |= dict.fromkeys(figures)
    return list(found)


def figure(entry: Entry, row: str, proxy: str, key: str = "value") -> float | None:
    """The median of the rounds; None: not measured."""
    values = [round_[proxy][row][key] for round_ in entry["rounds"] if row in round_.get(proxy, {})]
    return statistics.median(values) if values else None


def ratio(entry: Entry, row: str, proxy: str, other: str, other_row: str = "") -> float | None:
    """The median of the rounds' ratios of a proxy to another (or to another row of a proxy)."""
    other_row = other_row or row
    ratios = [
        round_[proxy][row]["value"] / divisor
        for round_ in entry["rounds"]
        if row in round_.get(proxy, {})
        and (divisor := round_.get(other, {}).get(other_row, {}).get("value"))
    ]
    return statistics.median(ratios) if ratios else None
