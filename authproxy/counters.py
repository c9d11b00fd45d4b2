"""Owns what is counted: the names, and sums over processes.

The hot path counts in plain integers, where it happens; `snapshot` reads them all. A snapshot is
plain data (it goes through a worker's channel as JSON): name -> label value ("" without a label) ->
number. How it is shown to whom is metrics.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from .accesslog import AccessLog
    from .gateway import Gateway
    from .transport.opening import Listener

Snapshot = dict[str, dict[str, float]]


@frozen
class Counted:
    """One name. `lasting` numbers only grow, and outlive the process that counted them."""

    name: str
    words: str
    lasting: bool = True
    label: str = ""


COUNTED = (
    Counted("requests", "Requests that are over, whoever answered them."),
    Counted("retries", "Requests sent again because a pooled connection was closed meanwhile."),
    Counted("dropped_fields", "Request fields left out for the form of their names."),
    Counted("refused", "Requests (or what should have been one) refused.", label="reason"),
    Counted("failed_openings", "Client connections that never became HTTP.", label="reason"),
    Counted("worker_restarts", "Workers that ended unasked and were replaced."),
    Counted("access_lines_lost", "Lines that the access log could not take."),
    Counted("upstream_dials", "Connections to upstream that were begun."),
    Counted("upstream_reuses", "Requests that a pooled connection carried."),
    Counted("workers", "Worker processes that serve.", lasting=False),
    Counted("client_connections", "Client connections that speak HTTP.", lasting=False),
    Counted("exchanges", "Requests under way, and open WebSockets.", lasting=False),
    Counted("websockets", "Open WebSockets.", lasting=False),
    Counted(
        "upstream_connections", "Connections to upstream, by what they do.", lasting=False,
        label="state",
    ),
    Counted("upstream_waiting", "Requests that wait for a connection to upstream.", lasting=False),
)  # fmt: skip
_LASTING = frozenset(counted.name for counted in COUNTED if counted.lasting)


def snapshot(
    gateway: Gateway,
    listeners: Iterable[Listener],
    access: AccessLog,
) -> Snapshot:
    """What was counted in this process until now."""
    pools = [site.pool for site in gateway.sites]
    servers = [server for pool in pools for server in pool.servers]
    return {
        "requests": {"": gateway.requests},
        "retries": {"": gateway.retried},
        "dropped_fields": {"": gateway.dropped_fields},
        "refused": dict(gateway.refused),
        "failed_openings": total({"": listener.failures} for listener in listeners).get("", {}),
        "access_lines_lost": {"": access.lost},
        "upstream_dials": {"": sum(pool.dials for pool in pools)},
        "upstream_reuses": {"": sum(pool.reused for pool in pools)},
        "client_connections": {"": len(gateway.connections)},
        "exchanges": {"": gateway.exchanges},
        "websockets": {"": len(gateway.relays)},
        "upstream_connections": {
            "idle": sum(len(server.idle) for server in servers),
            "leased": sum(server.leased for server in servers),
            "dialling": sum(server.dialling for server in servers),
        },
        "upstream_waiting": {"": sum(pool.waiting for pool in pools)},
    }


def total(snapshots: Iterable[Mapping[str, Mapping[str, float]]]) -> Snapshot:
    """The sum, label by label."""
    summed: Snapshot = {}
    for each in snapshots:
        for name, values in each.items():
            target = summed.setdefault(name, {})
            for label, value in values.items():
                target[label] = target.get(label, 0) + value
    return summed


def lasting(of: Snapshot) -> Snapshot:
    """What stays true when the process is gone: what was counted, without what was open."""
    return {name: values for name, values in of.items() if name in _LASTING}
