"""Counters over processes, and how Prometheus sees them."""

from __future__ import annotations

import json

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from authproxy import metrics
from authproxy.counters import COUNTED, Snapshot, lasting, snapshot, total
from authproxy.notify import status
from authproxy.settings import Settings

from .world import OK, World, get, say


class TotalTests(SynchronousTestCase):
    def test_label_by_label(self) -> None:
        summed = total([
            {"requests": {"": 1}, "refused": {"a": 1, "b": 2}},
            {"requests": {"": 10}, "refused": {"b": 20, "c": 30}},
        ])  # fmt: skip
        self.assertEqual(summed, {"requests": {"": 11}, "refused": {"a": 1, "b": 22, "c": 30}})

    def test_the_parts_stay_as_they_were(self) -> None:
        first: Snapshot = {"requests": {"": 1}}
        total([first, first])
        self.assertEqual(first, {"requests": {"": 1}})

    def test_what_outlives_a_process(self) -> None:
        ended: Snapshot = {"requests": {"": 5}, "websockets": {"": 3}}
        self.assertEqual(lasting(ended), {"requests": {"": 5}})


class SnapshotTests(SynchronousTestCase):
    def test_a_request(self) -> None:
        world = World(Settings())
        world.gateway._access.lost = 2  # type: ignore[misc]
        client = world.client()
        say(client, get())
        say(world.origins[0], OK)
        world.client()
        seen = snapshot(world.gateway, [], world.gateway._access)
        self.assertEqual(set(seen) | {"workers", "worker_restarts"}, {c.name for c in COUNTED})
        self.assertEqual(seen["requests"], {"": 1})
        self.assertEqual(seen["client_connections"], {"": 2})
        self.assertEqual(seen["upstream_connections"], {"idle": 1, "leased": 0, "dialling": 0})
        self.assertEqual((seen["upstream_dials"], seen["access_lines_lost"]), ({"": 1}, {"": 2}))
        self.assertEqual(json.loads(json.dumps(seen)), seen)
        self.assertEqual(status(seen), "STATUS=2 connections, 0 WebSockets, 1 requests")


class MetricsTests(SynchronousTestCase):
    def test_text(self) -> None:
        text = metrics.text(
            lambda: {"requests": {"": 7}, "refused": {'a "b"\n': 1}, "websockets": {"": 3}}
        )
        families = {family.name: family for family in text_string_to_metric_families(text.decode())}
        self.assertEqual(
            {name: family.type for name, family in families.items()},
            {f"authproxy_{c.name}": "counter" if c.lasting else "gauge" for c in COUNTED},
        )
        [sample] = families["authproxy_requests"].samples
        self.assertEqual((sample.name, sample.value), ("authproxy_requests_total", 7.0))
        [refused] = families["authproxy_refused"].samples
        self.assertEqual((refused.labels, refused.value), ({"reason": 'a "b"\n'}, 1.0))
        self.assertEqual(families["authproxy_websockets"].samples[0].value, 3.0)
