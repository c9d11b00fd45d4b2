"""Owns the small pieces of HTML that panels are made of. Everything that is text is escaped here.

Pure. `Live` is for numbers that page.js keeps current: it knows them by their path in /status.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .charts import HEIGHT, WIDTH
from .formats import shown

CLASSES = {
    "ready": "good", "up": "good", "valid": "good",
    "degraded": "warn", "partly up": "warn", "draining": "warn", "expires soon": "warn",
    "down": "bad", "not ready": "bad", "expired": "bad", "not yet valid": "bad",
}  # fmt: skip


class Live:
    """The numbers of a report, by their paths: "pool.idle", "sites.0.last_minute.p99"."""

    def __init__(self, plain: Mapping[str, Any]) -> None:
        self._plain = plain

    def read(self, path: str) -> Any:
        """What is there."""
        value: Any = self._plain
        for name in path.split("."):
            value = value[int(name)] if isinstance(value, (list, tuple)) else value[name]
        return value

    def number(self, path: str, form: str) -> str:
        """A number in its form."""
        text = shown(form, self.read(path))
        return f'<span data-v="{path}" data-f="{form}">{escape(text)}</span>'

    def bar(self, part: str, whole: str, kind: str = "") -> str:
        """How much of a whole it is."""
        most = self.read(whole)
        width = round(self.read(part) / most * WIDTH) if most else 0
        return _bar(kind, f'<rect data-part="{part}" data-whole="{whole}" width="{width}"')


def bar(share: float, kind: str) -> str:
    """A part of a whole, from 0 to 1."""
    return _bar(kind, f'<rect width="{round(min(max(share, 0), 1) * WIDTH)}"')


def _bar(kind: str, rect: str) -> str:
    return (
        f'<svg class="bar {kind}" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none"'
        f' aria-hidden="true">{rect} height="{HEIGHT}"/></svg>'
    )


def text(value: object) -> str:
    """Text, escaped for content and for attributes; control characters become U+FFFD."""
    said = str(value)
    if not said.isprintable():
        said = "".join(c if c.isprintable() else "\ufffd" for c in said)
    return escape(said)


def state(word: str, pill: bool = False) -> str:
    """A state: by its word, by a colour and by the form of its mark."""
    kind = CLASSES.get(word, "unknown")
    return f'<span class="state {kind}{" pill" if pill else ""}">{text(word)}</span>'


def card(content: str, title: str = "", beside: str = "", kind: str = "") -> str:
    """A panel."""
    head = f'<div class="head"><h2>{text(title)}</h2>{beside}</div>' if title else ""
    return f'<section class="card {kind}">{head}{content}</section>'


def rows(cells: Sequence[tuple[str, ...]]) -> str:
    """A table of (name, number, ...), whose parts are HTML already."""
    lines = ""
    for name, *more in cells:
        columns = "".join(f'<td class="n">{cell}</td>' for cell in more)
        lines += f'<tr><th scope="row">{name}</th>{columns}</tr>'
    return f"<table><tbody>{lines}</tbody></table>"


def figures(pairs: Sequence[tuple[str, str]]) -> str:
    """Names over numbers; the numbers are HTML already."""
    inner = "".join(f"<div><dt>{text(name)}</dt><dd>{value}</dd></div>" for name, value in pairs)
    return f'<dl class="figures">{inner}</dl>'
