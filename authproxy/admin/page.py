"""Owns the status page: one document without anything from elsewhere, and what it may do.

Pure. The style and the script are files beside this module, inside the document, and allowed by
their hashes (CSP3 2.3.1): nothing that gets into the page by a log line could run.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from urllib.parse import quote

from . import panels
from .pieces import CLASSES, Live, state, text
from .report import Report


def _file(name: str) -> str:
    return (files(__package__) / name).read_text("utf-8")


def _hash(content: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() + "'"


STYLE, SCRIPT = _file("page.css"), _file("page.js")
POLICY = "; ".join([
    "default-src 'none'",
    f"style-src {_hash(STYLE)}",
    f"script-src {_hash(SCRIPT)}",
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
])  # fmt: skip
WITHOUT_SCRIPT = 10  # seconds until a page without JavaScript asks again
_COLOURS = {"good": "#1a9c55", "warn": "#d9930d", "bad": "#d62839", "unknown": "#7a8494"}
_DOOR = "M5 21V4.5L14 2v20l-9-1zM14 4h5v16h-5"
_MARK = (
    '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8"'
    f' stroke-linejoin="round" aria-hidden="true"><path d="{_DOOR}"/>'
    '<circle cx="11" cy="12.5" r="1.1" fill="currentColor" stroke="none"/></svg>'
)


def document(report: Report) -> bytes:
    """The page, complete as it is."""
    plain = report.plain()
    live = Live(plain)
    title = f"{report.state}: authproxy on {report.host}"
    content = "".join([
        panels.alarm(report),
        panels.refused_reload(report),
        panels.tiles(report, live),
        panels.charts(report),
        panels.sites(report, live),
        panels.faults(report),
        panels.tables(report, live),
        panels.settings(report),
    ])  # fmt: skip
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title>"
        f'<link rel="icon" href="{text(_icon(report.state))}">'
        f'<noscript><meta http-equiv="refresh" content="{WITHOUT_SCRIPT}"></noscript>'
        f'<style>{STYLE}</style></head><body data-revision="{plain["revision"]}">'
        f"{_header(report, live)}<main>{content}</main>{_footer()}"
        f'<script type="module">{SCRIPT}</script></body></html>'
    ).encode()


def _header(report: Report, live: Live) -> str:
    return (
        f'<header><div class="name">{_MARK}<h1>authproxy</h1>'
        f'<span class="soft">{text(report.host)}</span></div>'
        f"{state(report.state, pill=True)}"
        f'<div class="facts"><span>version {text(report.authproxy)}</span>'
        f"<span>up {live.number('uptime', 'age')}</span>"
        f"<span>{live.number('now', 'moment')} UTC</span></div></header>"
    )


def _footer() -> str:
    return (
        '<footer><span id="live">without JavaScript: asks again every'
        f" {WITHOUT_SCRIPT} s</span><span>The same as data: "
        '<a href="/status.json">/status.json</a></span><span>For Prometheus: '
        '<a href="/metrics">/metrics</a></span></footer>'
    )


def _icon(word: str) -> str:
    colour = _COLOURS[CLASSES.get(word, "unknown")]
    svg = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none'"
        f" stroke='{colour}' stroke-width='2.4' stroke-linejoin='round'><path d='{_DOOR}'/></svg>"
    )
    return "data:image/svg+xml," + quote(svg)
