"""Owns how counters are shown to Prometheus: its text format, made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from .counters import BUCKETS, COUNTED, Counted, Snapshot

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class _Counters(Collector):
    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        values = self._read()
        for counted in COUNTED:
            of = values.get(counted.name, {})
            yield _histogram(counted, of) if counted.is_histogram else _numbers(counted, of)


def _numbers(counted: Counted, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily if counted.lasting else GaugeMetricFamily
    metric = family(f"authproxy_{counted.name}", counted.words, labels=counted.labels)
    for key, value in sorted(values.items()):
        metric.add_metric(key.split("\t") if counted.labels else [], value)
    return metric


def _histogram(counted: Counted, values: Mapping[str, float]) -> Metric:
    """Prometheus' buckets are cumulative."""
    name, labels = f"authproxy_{counted.name}", counted.labels[:-1]
    metric = HistogramMetricFamily(name, counted.words, labels=labels)
    for prefix in sorted({key.rpartition("\t")[0] for key in values}):
        below, buckets = 0.0, []
        for bound in BUCKETS:
            below += values.get(f"{prefix}\t{bound}", 0)
            buckets.append((bound, below))
        metric.add_metric(prefix.split("\t"), buckets, values.get(f"{prefix}\tsum", 0))
    return metric


def text(read: Callable[[], Snapshot]) -> bytes:
    """All of them in Prometheus' text format 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Counters(read))
    return generate_latest(registry)
