"""Owns what is counted of one site while it serves: plain integers, where the hot path finds them.

They are the gateway's, by the name of the site, and outlive a site or a pool that is replaced when
settings change: what is counted never goes back. What a client says never becomes a key, except
where it is one of a few known words: who can make up keys can fill the memory of two machines, this
one and Prometheus'. How counts are named and shown is counters.py's and metrics.py's.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .exchange import Exchange

# Upper bounds of the buckets, in seconds; one bucket more has the rest. From what a pooled
# connection to the same machine does, to timeouts.first_byte.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# RFC 9110 9 and RFC 5789; every other is OTHER.
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
OTHER = b"other"
BATCH = 128  # requests that are added up together
# Of authentik's WebSockets: flows in browsers, outposts, remote access in browsers and in outposts.
WEBSOCKETS = ("/ws/client/", "/ws/outpost/", "/ws/rac/", "/ws/outpost_rac/", "other")
# authentik may be served below a path of its own (AUTHENTIK_WEB__PATH).
_WEBSOCKET = re.compile(rb"[^?]*?(/ws/(?:client|outpost|rac|outpost_rac)/)")


def websocket_path(target: bytes) -> str:
    """Which of WEBSOCKETS a request target is for."""
    match = _WEBSOCKET.match(target)
    return match[1].decode() if match else "other"


class SiteCounts:
    """The counts of one site.

    A request that is over costs an entry; they are added up together (`settle`), which takes half
    of the time.
    `requests` is version as in RequestHead -> method -> status -> number. Buckets
    are not cumulative. Octets of content are counted when the request is over, those of a WebSocket
    when it is closed.
    """

    __slots__ = (
        "_ended",
        "checks",
        "content_received",
        "content_sent",
        "dial_failures",
        "dials",
        "durations",
        "faults",
        "first_byte_seconds",
        "first_bytes",
        "name",
        "requests",
        "retries",
        "reuses",
        "seconds",
        "websocket_received",
        "websocket_sent",
        "websockets",
    )

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.requests: dict[int, dict[bytes, dict[int, int]]] = {}
        self.durations = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self.first_bytes = [0] * (len(BOUNDS) + 1)
        self.first_byte_seconds = 0.0
        self.content_received = 0
        self.content_sent = 0
        self.websockets = dict.fromkeys(WEBSOCKETS, 0)  # that began
        self.websocket_received = 0
        self.websocket_sent = 0
        self.retries = 0
        self.dials = 0
        self.dial_failures = 0
        self.reuses = 0
        self.faults: dict[str, int] = {}
        self.checks: dict[tuple[str, str], int] = {}  # by upstream server and result
        # Version, method, status, seconds, seconds to the first byte (-1.0: not known), octets
        # received and sent.
        self._ended: list[tuple[int, bytes, int, float, float, int, int]] = []

    def over(self, exchange: Exchange, now: float) -> None:
        """A request is over, or a WebSocket."""
        head, asked, ended = exchange.head, exchange.asked, self._ended
        ended.append(
            (
                head.version, head.method, exchange.status, now - exchange.started,
                now - asked if asked else -1.0, exchange.received, exchange.sent,
            )
        )  # fmt: skip
        if len(ended) >= BATCH:
            self.settle()

    def settle(self) -> None:
        """Add up what is over: before anybody reads the counts."""
        requests, durations, first_bytes = self.requests, self.durations, self.first_bytes
        for version, method, status, seconds, first, received, sent in self._ended:
            # No key is made: a tuple of these costs twice as much as the three look-ups.
            try:
                requests[version][method][status] += 1
            except KeyError:
                self._count_first(version, method, status)
            if status == 101:
                continue  # how long a WebSocket was open says nothing of requests
            self.content_received += received
            self.content_sent += sent
            self.seconds += seconds
            bucket = bisect_left(BOUNDS, seconds)
            durations[bucket] += 1
            if first >= 0.0:
                self.first_byte_seconds += first
                if bucket and first <= BOUNDS[bucket - 1]:  # mostly it is the same
                    bucket = bisect_left(BOUNDS, first)
                first_bytes[bucket] += 1
        self._ended.clear()

    def _count_first(self, version: int, method: bytes, status: int) -> None:
        """One that is not there yet, or has a method that never is."""
        if method not in METHODS:
            method = OTHER
        statuses = self.requests.setdefault(version, {}).setdefault(method, {})
        statuses[status] = statuses.get(status, 0) + 1

    def first_byte(self, seconds: float) -> None:
        """Upstream's response began so long after the request was written."""
        self.first_bytes[bisect_left(BOUNDS, seconds)] += 1
        self.first_byte_seconds += seconds
