"""Owns what was: samples of the counters, the rates between them, and the points of the charts.

Pure: whoever samples says when. Memory is bounded by KEEP points, and by the samples of a minute.
"""

from __future__ import annotations

from collections import deque

from attrs import frozen

from .figures import Buckets, Counts, by, histograms, merged, quantile, since, total

EVERY = 5.0  # seconds between two samples
KEEP = 180  # points: 15 minutes
MINUTE = 60.0
MOMENT = 10.0  # seconds over which a rate is "now"


@frozen
class Sample:
    """The counters at a moment (seconds of a clock that only goes forward), as far as rates of
    them are shown. `sites` is site -> (requests, those answered with 5xx)."""

    at: float
    requests: float
    errors: float
    sites: dict[str, tuple[float, float]]
    latency: dict[str, Buckets]
    first_byte: dict[str, Buckets]
    received: float
    sent: float

    @classmethod
    def of(cls, at: float, counts: Counts) -> Sample:
        """Of a snapshot."""
        names = by(counts, "requests", 0)
        sites = {}
        for site in names if any("\t" in key for key in counts.get("requests", {})) else ():
            statuses = by(counts, "requests", 2, first=site)
            sites[site] = (names[site], statuses.get("5xx", 0))
        return cls(
            at,
            total(counts, "requests"),
            by(counts, "requests", 2).get("5xx", 0),
            sites,
            histograms(counts, "request_seconds"),
            histograms(counts, "upstream_first_byte_seconds"),
            total(counts, "content_received_bytes") + total(counts, "websocket_received_bytes"),
            total(counts, "content_sent_bytes") + total(counts, "websocket_sent_bytes"),
        )


@frozen
class Window:
    """What happened between two samples. None is what is not known.

    requests, errors (those answered with 5xx), received and sent (octets of content, at all sites
    together) are per second; p50 ... are seconds; error_share is 0 to 1.
    """

    requests: float | None = None
    errors: float | None = None
    error_share: float | None = None
    p50: float | None = None
    p99: float | None = None
    first_byte_p50: float | None = None
    first_byte_p99: float | None = None
    received: float | None = None
    sent: float | None = None


@frozen
class Point:
    """One point of the charts: the time since the sample before, and what was open at its end."""

    window: Window
    websockets: float
    connections: float


def between(before: Sample | None, after: Sample, site: str | None = None) -> Window:
    """What happened, at all or at one site."""
    if before is None or after.at <= before.at:
        return Window()
    seconds = after.at - before.at
    received: float | None
    sent: float | None
    if site is None:
        requests = max(0.0, after.requests - before.requests)
        errors = max(0.0, after.errors - before.errors)
        latency = since(merged(before.latency), merged(after.latency))
        first_byte = since(merged(before.first_byte), merged(after.first_byte))
        received = max(0.0, after.received - before.received) / seconds
        sent = max(0.0, after.sent - before.sent) / seconds
    else:
        if site not in after.sites and after.requests:
            return Window()  # not counted by site
        now, then = after.sites.get(site, (0.0, 0.0)), before.sites.get(site, (0.0, 0.0))
        requests, errors = max(0.0, now[0] - then[0]), max(0.0, now[1] - then[1])
        latency = since(before.latency.get(site, {}), after.latency.get(site, {}))
        first_byte = since(before.first_byte.get(site, {}), after.first_byte.get(site, {}))
        received = sent = None
    return Window(
        requests / seconds,
        errors / seconds,
        min(1.0, errors / requests) if requests else None,
        quantile(latency, 0.5),
        quantile(latency, 0.99),
        quantile(first_byte, 0.5),
        quantile(first_byte, 0.99),
        received,
        sent,
    )


class History:
    """The last quarter of an hour. `points` are the charts', the oldest first."""

    def __init__(self) -> None:
        self.points: deque[Point] = deque(maxlen=KEEP)
        self._samples: deque[Sample] = deque(maxlen=round(MINUTE / EVERY) + 1)

    def add(self, at: float, counts: Counts) -> None:
        """Take a sample."""
        sample = Sample.of(at, counts)
        if self._samples:
            window = between(self._samples[-1], sample)
            self.points.append(
                Point(window, total(counts, "websockets"), total(counts, "client_connections"))
            )
        self._samples.append(sample)

    def before(self, at: float, seconds: float) -> Sample | None:
        """The youngest sample that is at least so old at this moment, or else the oldest."""
        old = [sample for sample in self._samples if sample.at <= at - seconds]
        if old:
            return old[-1]
        return self._samples[0] if self._samples else None
