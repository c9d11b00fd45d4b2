"""Owns what there is to say of the proxy at a moment, as plain data: the form of /status.json.

Pure. The field names are public (docs/status-page.md): they are added to, never renamed. Times are
seconds since the epoch, durations seconds, shares 0 to 1; None is what is not known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from attrs import frozen

from .. import __version__
from ..identity import Identity
from ..settings import Settings
from .certificates import Certificate, certificates
from .figures import Counts, by, total
from .history import EVERY, MINUTE, MOMENT, History, Point, Sample, Window, between
from .in_force import Section, sections
from .recent import Fault

MOST_NAMES = 12  # of a table whose rows clients can cause


@frozen
class Named:
    """One row of a table of counts."""

    name: str
    value: float


@frozen
class UpstreamReport:
    """`state`: "up", "partly up", "down" or "not checked"; `workers_up` of how many processes."""

    name: str
    state: str
    workers_up: int | None
    workers: int


@frozen
class SiteReport:
    """A site; `state` is "up" as long as one of its upstreams is, "degraded" if another is not.

    `last_minute` has its rates and latencies.
    """

    name: str
    hosts: tuple[str, ...]
    state: str
    upstreams: tuple[UpstreamReport, ...]
    requests: float | None
    last_minute: Window


@frozen
class Pool:
    """Connections to upstream of all sites."""

    idle: float
    leased: float
    dialling: float
    waiting: float
    dials: float
    reuses: float
    retries: float


@frozen
class Reload:
    """What came of the last reload: `problem` is "" or why the old settings stay, line by line."""

    problem: str
    at: float


@frozen
class Chart:
    """The last quarter of an hour, a value each `every` seconds, the oldest first."""

    every: float
    requests: tuple[float | None, ...]
    errors: tuple[float | None, ...]
    p50: tuple[float | None, ...]
    p99: tuple[float | None, ...]
    websockets: tuple[float, ...]
    connections: tuple[float, ...]


@frozen
class Report:
    """Everything. `state`: "ready", "not ready" or "draining"; `reasons` why it is not ready."""

    authproxy: str
    host: str
    now: float
    uptime: float
    state: str
    reasons: tuple[str, ...]
    workers: int
    worker_restarts: float
    requests: float
    requests_per_second: float | None
    last_minute: Window
    under_way: float
    connections: float
    http2_streams: float
    websockets: float
    websockets_by_path: tuple[Named, ...]
    requests_by_status: tuple[Named, ...]
    requests_by_method: tuple[Named, ...]
    requests_by_version: tuple[Named, ...]
    refused: tuple[Named, ...]
    failed_openings: tuple[Named, ...]
    sites: tuple[SiteReport, ...]
    certificates: tuple[Certificate, ...]
    pool: Pool
    history: Chart
    errors: tuple[Fault, ...]
    last_reload: Reload | None
    settings_file: str
    settings: tuple[Section, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON has it. `revision` changes with everything but numbers: what a page must redraw,
        where numbers alone can be put in their places."""
        plain = attrs.asdict(self)
        plain["revision"] = _revision(plain)
        return plain


@frozen
class Now:
    """The moment: seconds since the epoch, seconds of a clock that only goes forward, seconds since
    the start, and the name of this machine."""

    wall: float
    steady: float
    uptime: float
    host: str


def readiness(
    settings: Settings, identity: Identity, draining: bool, counts: Counts, wall: float
) -> list[str]:
    """Why this proxy is not ready for requests, a line for each reason; none: it is."""
    if draining:
        return ["draining"]
    shown = certificates(settings, identity, wall)
    return _reasons(_sites(settings, counts, None, None), shown, counts)


def report(
    now: Now,
    settings: Settings,
    identity: Identity,
    draining: bool,
    counts: Counts,
    history: History,
    faults: Sequence[Fault],
    last_reload: tuple[str, float] | None = None,
) -> Report:
    """Everything at this moment."""
    sample = Sample.of(now.steady, counts)
    before = history.before(now.steady, MINUTE)
    moment = between(history.before(now.steady, MOMENT), sample)
    sites = _sites(settings, counts, before, sample)
    shown = certificates(settings, identity, now.wall)
    reasons = ["draining"] if draining else _reasons(sites, shown, counts)
    return Report(
        authproxy=__version__,
        host=now.host,
        now=now.wall,
        uptime=now.uptime,
        state="draining" if draining else "not ready" if reasons else "ready",
        reasons=tuple(reasons),
        workers=_workers(counts),
        worker_restarts=total(counts, "worker_restarts"),
        requests=sample.requests,
        requests_per_second=moment.requests,
        last_minute=between(before, sample),
        under_way=max(0.0, total(counts, "exchanges") - total(counts, "websockets")),
        connections=total(counts, "client_connections"),
        http2_streams=total(counts, "http2_streams"),
        websockets=total(counts, "websockets"),
        websockets_by_path=_most(by(counts, "websockets", -1)),
        requests_by_status=_in_order(by(counts, "requests", 2)),
        requests_by_method=_most(by(counts, "requests", 1)),
        requests_by_version=_in_order(by(counts, "requests", 3)),
        refused=_most(by(counts, "refused", -1)),
        failed_openings=_most(by(counts, "failed_openings", -1)),
        sites=tuple(sites),
        certificates=tuple(shown),
        pool=_pool(counts),
        history=_chart(history),
        errors=tuple(faults),
        last_reload=None if last_reload is None else Reload(*last_reload),
        settings_file=settings.path,
        settings=tuple(sections(settings)),
    )


def _sites(
    settings: Settings, counts: Counts, before: Sample | None, sample: Sample | None
) -> list[SiteReport]:
    workers, known = max(1, _workers(counts)), counts.get("upstream_up", {})
    found = []
    for site in settings.sites:
        name = site.hosts[0] if site.hosts else "default"
        upstreams = tuple(
            _upstream(str(upstream), known.get(f"{name}\t{upstream}"), workers)
            for upstream in site.upstreams
        )
        counted = None if sample is None else sample.sites.get(name)
        found.append(
            SiteReport(
                name=name,
                hosts=site.hosts,
                state=_state([upstream.state for upstream in upstreams]),
                upstreams=upstreams,
                requests=None if counted is None else counted[0],
                last_minute=Window() if sample is None else between(before, sample, name),
            )
        )
    return found


def _upstream(name: str, up: float | None, workers: int) -> UpstreamReport:
    if up is None:
        return UpstreamReport(name, "not checked", None, workers)
    state = "down" if up <= 0 else "up" if up >= workers else "partly up"
    return UpstreamReport(name, state, int(up), workers)


def _state(states: Sequence[str]) -> str:
    """Of a site with these upstreams."""
    kinds = set(states)
    if len(kinds) == 1 and kinds != {"partly up"}:
        return states[0]
    return "degraded"


def _reasons(
    sites: Sequence[SiteReport], shown: Sequence[Certificate], counts: Counts
) -> list[str]:
    found = []
    if "workers" in counts and not total(counts, "workers"):
        found.append("no worker process serves")
    for site in sites:
        if site.state == "down":
            names = ", ".join(upstream.name for upstream in site.upstreams)
            found.append(f"site {site.name}: no upstream is up ({names})")
    for certificate in shown:
        if certificate.state == "expired":
            found.append(f"site {certificate.site}: its certificate expired on"
                         f" {certificate.not_after}")  # fmt: skip
        elif certificate.state == "not yet valid":
            found.append(f"site {certificate.site}: its certificate is valid only from"
                         f" {certificate.not_before}")  # fmt: skip
    return found


def _workers(counts: Counts) -> int:
    """Processes that serve; one process counts no workers."""
    return int(total(counts, "workers")) if "workers" in counts else 1


def _pool(counts: Counts) -> Pool:
    states = by(counts, "upstream_connections", -1)
    return Pool(
        idle=states.get("idle", 0),
        leased=states.get("leased", 0),
        dialling=states.get("dialling", 0),
        waiting=total(counts, "upstream_waiting"),
        dials=total(counts, "upstream_dials"),
        reuses=total(counts, "upstream_reuses"),
        retries=total(counts, "retries"),
    )


def _chart(history: History) -> Chart:
    points: Sequence[Point] = history.points
    return Chart(
        every=EVERY,
        requests=tuple(point.window.requests for point in points),
        errors=tuple(point.window.errors for point in points),
        p50=tuple(point.window.p50 for point in points),
        p99=tuple(point.window.p99 for point in points),
        websockets=tuple(point.websockets for point in points),
        connections=tuple(point.connections for point in points),
    )


def _most(counted: Mapping[str, float]) -> tuple[Named, ...]:
    """The largest first; the rest in one row."""
    rows = sorted(
        (Named(name, value) for name, value in counted.items() if value),
        key=lambda row: (-row.value, row.name),
    )
    if len(rows) > MOST_NAMES:
        rest = sum(row.value for row in rows[MOST_NAMES - 1 :])
        rows = [*rows[: MOST_NAMES - 1], Named("others", rest)]
    return tuple(rows)


def _in_order(counted: Mapping[str, float]) -> tuple[Named, ...]:
    return tuple(Named(name, value) for name, value in sorted(counted.items()) if value)


def _revision(plain: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in plain.items() if name != "history"}
    exact = [kept.pop("errors"), kept.pop("last_reload")]
    text = json.dumps([_without_numbers(kept), exact])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_numbers(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_numbers(part) for part in value]
    return value if isinstance(value, (str, bool)) else None
