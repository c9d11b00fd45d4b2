"""Owns what the admin listener answers: the paths, who may ask, and the fields of every answer.

A browser on this machine reaches the listener too, with whatever page is open in it. So that no
page can read or work here: the Host must be one that no foreign name resolves to (DNS rebinding),
only GET and HEAD are answered, nothing is allowed to other origins, and what other sites cause
(Fetch Metadata) is refused, but for a person's click on a link.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Protocol

from twisted.web.resource import Resource
from twisted.web.server import Request

from .. import metrics
from ..counters import Snapshot
from .page import POLICY, document
from .report import Report

Answer = tuple[int, str, bytes]  # status, media type, content

FRESH = 0.5  # seconds for which a report is good: a flood of questions costs two reports a second
SCRAPES = 10  # of the counters in a second; who asks more often gets the last one again
_PORT = re.compile(r":[0-9]*\Z")
_TEXT = "text/plain; charset=utf-8"
_FIELDS = {
    "cache-control": "no-store",
    "connection": "close",  # see listener.py
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "server": "authproxy",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class State(Protocol):
    """What is asked for: the report, the counters, and why the proxy is not ready."""

    def report(self) -> Report:
        """Everything, as of now."""

    def counters(self) -> Snapshot:
        """What all processes counted."""

    def not_ready(self) -> list[str]:
        """The reasons, none where it is ready."""


class Answers:
    """Path -> answer. `steady` is a clock in seconds; reports, and what is made of them, are made
    anew when they are older than FRESH."""

    def __init__(self, state: State, steady: Callable[[], float]) -> None:
        self._state = state
        self._steady = steady
        self._made: dict[bytes, tuple[float, Answer]] = {}
        self._of_reports: dict[bytes, Callable[[Report], Answer]] = {
            b"/": lambda report: (200, "text/html; charset=utf-8", document(report)),
            b"/status.json": _status,
        }
        self._others: dict[bytes, Callable[[], Answer]] = {
            b"/metrics": self._metrics,
            b"/healthz": lambda: (200, _TEXT, b"ok\n"),
            b"/readyz": self._ready,
        }
        self._scraped: tuple[float, int, bytes] = (0.0, 0, b"")  # in which second, how often, what

    def of(self, path: bytes) -> Answer:
        """The answer to a GET of this path."""
        make = self._of_reports.get(path)
        if make is None:
            other = self._others.get(path)
            return refused(404, "There is nothing here.") if other is None else other()
        now = self._steady()
        made = self._made.get(path)
        if made is None or not 0 <= now - made[0] < FRESH:
            made = self._made[path] = now, make(self._state.report())
        return made[1]

    def _metrics(self) -> Answer:
        second = self._steady() // 1
        since, times, text = self._scraped
        if since != second:
            times = 0
        if times < SCRAPES:
            text = metrics.text(self._state.counters)
            self._scraped = second, times + 1, text
        return 200, metrics.CONTENT_TYPE.decode(), text

    def _ready(self) -> Answer:
        reasons = self._state.not_ready()
        text = "".join(f"{reason}\n" for reason in reasons) or "ready\n"
        return 503 if reasons else 200, _TEXT, text.encode()


def _status(report: Report) -> Answer:
    return 200, "application/json", json.dumps(report.plain()).encode() + b"\n"


def refused(status: int, why: str) -> Answer:
    """An answer that is none."""
    return status, _TEXT, why.encode() + b"\n"


class Guard:
    """Who may ask. `names` are hosts by which this listener may be called, beside addresses."""

    def __init__(self, names: Iterable[str], unix: bool) -> None:
        self._names = {"localhost", *(name.lower() for name in names if name)}
        self._unix = unix  # no page reaches a unix socket, and a proxy before it has its own Host

    def refusal(self, request: Request) -> Answer | None:
        """Why this request is not answered, or None."""
        if request.method not in (b"GET", b"HEAD"):
            return refused(405, "Only GET and HEAD are answered here.")
        # No Host: HTTP/1.0, which no browser speaks and some load balancers do.
        hosts = request.requestHeaders.getRawHeaders(b"host", [])
        if not self._unix and not all(map(self._knows, hosts)):
            return refused(
                421,
                "This Host is not one of the admin listener's. Ask for its address, localhost or"
                " this machine's own name.",
            )
        if _of_another_site(request):
            return refused(403, "Other sites may not ask here.")
        return None

    def _knows(self, host: bytes) -> bool:
        name = _PORT.sub("", host.decode("latin-1")).lower().removesuffix(".")
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True


def _of_another_site(request: Request) -> bool:
    """Whether a browser says that another site's page caused this, and not a click on a link."""
    # Octets: as text twisted.web raises what is not UTF-8.
    if request.getHeader(b"sec-fetch-site") not in (b"cross-site", b"same-site"):
        return False
    return (
        request.getHeader(b"sec-fetch-mode") != b"navigate"
        or request.getHeader(b"sec-fetch-dest") != b"document"
    )


class Pages(Resource):
    """All paths: one place for the guard and for the fields."""

    isLeaf = True

    def __init__(self, answers: Answers, guard: Guard) -> None:
        super().__init__()
        self._answers = answers
        self._guard = guard

    def render(self, request: Any) -> bytes:
        """The content of the answer; twisted.web leaves it out for HEAD."""
        status, kind, content = self._guard.refusal(request) or self._answers.of(request.path)
        request.setResponseCode(status, HTTPStatus(status).phrase.encode())
        request.setHeader("content-type", kind)
        for name, value in _FIELDS.items():
            request.setHeader(name, value)
        if status == 405:
            request.setHeader("allow", "GET, HEAD")
        return content
