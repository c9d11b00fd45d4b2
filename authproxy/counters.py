"""Owns what is counted: the names, and sums over processes.

The hot path counts in plain integers, where it happens (sitecounts.py has those of a site);
`snapshot` reads them all. A snapshot is plain data (it goes through a worker's channel as JSON):
name -> key -> number. The key is the values of the labels, joined by tabs; "" without labels. A
histogram's last label is the upper bound of the bucket ("+Inf" for the last one; buckets are not
cumulative), or "sum" in its place. How it is shown to whom is metrics.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from .sitecounts import BOUNDS, WEBSOCKETS, SiteCounts

if TYPE_CHECKING:
    from .accesslog import AccessLog
    from .gateway import Gateway, Site

Snapshot = dict[str, dict[str, float]]

# Of the process that has the admin listener: a sum over workers would be no date, and no answer.
CERTIFICATES = "certificate_expiry_timestamp_seconds"
RELOADED, RELOADED_AT = "last_reload_successful", "last_reload_timestamp_seconds"
BUCKETS = (*map(str, BOUNDS), "+Inf")
_VERSIONS = {10: "1.0", 11: "1.1", 20: "2"}


@frozen
class Counted:
    """One name. `lasting` numbers only grow, and outlive the process that counted them."""

    name: str
    words: str
    labels: tuple[str, ...] = ()
    lasting: bool = True

    @property
    def is_histogram(self) -> bool:
        """Whether the keys end in buckets."""
        return self.labels[-1:] == ("le",)


def _open(name: str, words: str, *labels: str) -> Counted:
    """What there is just now, and may be less later."""
    return Counted(name, words, labels, lasting=False)


COUNTED = (
    Counted(
        "requests",
        "Requests that are over, whoever answered them; WebSockets are 1xx, once closed.",
        ("site", "method", "status", "version"),
    ),
    Counted(
        "request_seconds",
        "From the request's head to the end of its response; WebSockets left out.",
        ("site", "le"),
    ),
    Counted(
        "upstream_first_byte_seconds",
        "From the request, written to upstream, to the head of its response.",
        ("site", "le"),
    ),
    Counted("content_received_bytes", "Content of requests that are over.", ("site",)),
    Counted("content_sent_bytes", "Content of responses that are over.", ("site",)),
    Counted("websockets_opened", "WebSockets that began, by authentik's paths.", ("path",)),
    Counted("websocket_received_bytes", "Relayed from clients to upstream.", ("site",)),
    Counted("websocket_sent_bytes", "Relayed from upstream to clients.", ("site",)),
    Counted(
        "retries", "Requests sent again because a pooled connection was closed meanwhile.",
        ("site",),
    ),
    Counted(
        "dropped_fields", "Request fields left out because clients may not say them.", ("field",)
    ),
    Counted("refused", "Requests (or what should have been one) refused.", ("reason",)),
    Counted("tls_handshakes", "TLS handshakes with clients.", ("tls", "protocol", "session")),
    Counted("failed_openings", "Client connections that never became HTTP.", ("reason",)),
    Counted("upstream_dials", "Connections to upstream that were begun.", ("site",)),
    Counted("upstream_dial_failures", "Those of them that came to nothing.", ("site",)),
    Counted("upstream_reuses", "Requests that a pooled connection carried.", ("site",)),
    Counted(
        "upstream_faults", "Requests that upstream left without a whole response.",
        ("site", "reason"),
    ),
    Counted("upstream_checks", "Health checks.", ("site", "upstream", "result")),
    Counted("access_lines_lost", "Lines that the access log could not take."),
    Counted("worker_restarts", "Workers that ended unasked and were replaced."),
    _open("workers", "Worker processes that serve."),
    _open("client_connections", "Client connections that speak HTTP.", "version"),
    _open("http2_streams", "Open streams of HTTP/2 connections."),
    _open("exchanges", "Requests under way, and open WebSockets."),
    _open("websockets", "Open WebSockets, by authentik's paths.", "path"),
    _open("upstream_connections", "Connections to upstream, by what they do.", "site", "state"),
    _open("upstream_waiting", "Requests that wait for a connection to upstream.", "site"),
    _open(
        "upstream_up", "Worker processes for which the upstream server is up.", "site", "upstream"
    ),
    _open(
        CERTIFICATES,
        "When the certificate expires, in seconds since the epoch.",
        "site",
    ),
    _open(RELOADED, "1 if the last reload is in force, 0 if it was refused; none: there was none."),
    _open(RELOADED_AT, "When that was, in seconds since the epoch."),
)  # fmt: skip
_LASTING = frozenset(counted.name for counted in COUNTED if counted.lasting)


def snapshot(gateway: Gateway, access: AccessLog) -> Snapshot:
    """What was counted in this process until now."""
    return {
        **_of_sites(gateway.counts.values()),
        **_of_relays(gateway),
        **_of_pools(gateway.sites),
        **_of_checks(gateway.sites),
        "dropped_fields": dict(gateway.dropped_fields),
        "refused": dict(gateway.refused),
        "tls_handshakes": dict(gateway.handshakes),
        "failed_openings": dict(gateway.failed_openings),
        "access_lines_lost": {"": access.lost},
        "exchanges": {"": gateway.exchanges},
        **_of_connections(gateway.connections),
    }


def _of_sites(sites: Iterable[SiteCounts]) -> Snapshot:
    found: Snapshot = {
        "requests": {}, "request_seconds": {}, "upstream_first_byte_seconds": {},
        "upstream_faults": {}, "upstream_checks": {},
    }  # fmt: skip
    for site in sites:
        name = site.name
        site.settle()
        found["requests"] |= _requests(site)
        found["request_seconds"] |= _histogram(name, site.durations, site.seconds)
        found["upstream_first_byte_seconds"] |= _histogram(
            name, site.first_bytes, site.first_byte_seconds
        )
        for reason, count in site.faults.items():
            found["upstream_faults"][f"{name}\t{reason}"] = count
        for (upstream, result), count in site.checks.items():
            found["upstream_checks"][f"{name}\t{upstream}\t{result}"] = count
        for counted, value in (
            ("content_received_bytes", site.content_received),
            ("content_sent_bytes", site.content_sent),
            ("retries", site.retries),
            ("upstream_dials", site.dials),
            ("upstream_dial_failures", site.dial_failures),
            ("upstream_reuses", site.reuses),
        ):
            found.setdefault(counted, {})[name] = value
    return found


def _requests(site: SiteCounts) -> dict[str, float]:
    found: dict[str, float] = {}
    for version, methods in site.requests.items():
        for method, statuses in methods.items():
            for status, count in statuses.items():
                key = f"{site.name}\t{method.decode()}\t{status // 100}xx\t{_VERSIONS[version]}"
                found[key] = found.get(key, 0) + count
    return found


def _histogram(site: str, buckets: Sequence[int], seconds: float) -> Iterator[tuple[str, float]]:
    for bound, count in zip(BUCKETS, buckets, strict=True):
        yield f"{site}\t{bound}", count
    yield f"{site}\tsum", seconds


def _of_relays(gateway: Gateway) -> Snapshot:
    """WebSockets: those that are closed are in the counts of their sites."""
    now = dict.fromkeys(WEBSOCKETS, 0.0)
    opened = dict.fromkeys(WEBSOCKETS, 0.0)
    received: dict[str, float] = {}
    sent: dict[str, float] = {}
    for site in gateway.counts.values():
        received[site.name] = site.websocket_received
        sent[site.name] = site.websocket_sent
        for path, count in site.websockets.items():
            opened[path] += count
    for relay in gateway.relays:
        now[relay.path] += 1
        name = relay.counts.name
        received[name] += relay.received
        sent[name] += relay.sent
    return {
        "websockets": now,
        "websockets_opened": opened,
        "websocket_received_bytes": received,
        "websocket_sent_bytes": sent,
    }


def _of_pools(sites: Iterable[Site]) -> Snapshot:
    connections: dict[str, float] = {}
    waiting: dict[str, float] = {}
    for site in sites:
        name, servers = site.name, site.pool.servers
        connections[f"{name}\tidle"] = sum(len(server.idle) for server in servers)
        connections[f"{name}\tleased"] = sum(server.leased for server in servers)
        connections[f"{name}\tdialling"] = sum(server.dialling for server in servers)
        waiting[name] = site.pool.waiting
    return {"upstream_connections": connections, "upstream_waiting": waiting}


def _of_checks(sites: Iterable[Site]) -> Snapshot:
    servers = [(site.name, server) for site in sites for server in site.pool.servers]
    return {
        "upstream_up": {
            f"{name}\t{server.name}": int(server.health.up)
            for name, server in servers
            if server.health is not None
        }
    }


def _of_connections(connections: Iterable[Any]) -> Snapshot:
    """Only those of HTTP/2 have streams."""
    streams = [getattr(connection, "streams", None) for connection in connections]
    of_http2 = [len(each) for each in streams if each is not None]
    return {
        "client_connections": {"1": len(streams) - len(of_http2), "2": len(of_http2)},
        "http2_streams": {"": sum(of_http2)},
    }


def total(snapshots: Iterable[Mapping[str, Mapping[str, float]]]) -> Snapshot:
    """The sum, key by key."""
    summed: Snapshot = {}
    for each in snapshots:
        for name, values in each.items():
            target = summed.setdefault(name, {})
            for key, value in values.items():
                target[key] = target.get(key, 0) + value
    return summed


def lasting(of: Snapshot) -> Snapshot:
    """What stays true when the process is gone: what was counted, without what was open."""
    return {name: values for name, values in of.items() if name in _LASTING}
