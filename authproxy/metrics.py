"""Owns how counters are shown to Prometheus: its text format, made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .counters import COUNTED, Snapshot

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class _Counters(Collector):
    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        values = self._read()
        for counted in COUNTED:
            family = CounterMetricFamily if counted.lasting else GaugeMetricFamily
            labels = [counted.label] if counted.label else []
            metric = family(f"authproxy_{counted.name}", counted.words, labels=labels)
            for label, value in sorted(values.get(counted.name, {}).items()):
                metric.add_metric([label] if counted.label else [], value)
            yield metric


def text(read: Callable[[], Snapshot]) -> bytes:
    """All of them in Prometheus' text format 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Counters(read))
    return generate_latest(registry)
