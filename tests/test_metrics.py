"""How Prometheus sees what is counted: the text, and what is shipped to read and to watch it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import skipUnless

from attrs import frozen
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from authproxy import metrics
from authproxy.counters import BUCKETS, COUNTED, Counted, Snapshot
from authproxy.transport.opening import REFUSED

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "metrics.md"
ALERTS = ROOT / "etc" / "authproxy-alerts.yml"
DASHBOARD = ROOT / "etc" / "authproxy-grafana.json"
WITH_PROMTOOL = skipUnless(shutil.which("promtool"), "promtool is not installed")

# A number for each name, under odd values of the labels.
SAMPLE: Snapshot = {
    counted.name: {
        "\t".join(["+Inf" if label == "le" else f'"{n}"' for n, label in enumerate(counted.labels)])
        : 3
    }
    for counted in COUNTED
}  # fmt: skip


def families(snapshot: Snapshot) -> dict[str, Metric]:
    text = metrics.text(lambda: snapshot).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def type_of(counted: Counted) -> str:
    if counted.is_histogram:
        return "histogram"
    return "counter" if counted.lasting else "gauge"


@frozen
class Shown:
    """A metric under the name that Prometheus has it by."""

    name: str
    labels: frozenset[str]


def shown() -> Iterator[Shown]:
    for counted in COUNTED:
        labels = frozenset(counted.labels)
        name = f"authproxy_{counted.name}"
        if counted.is_histogram:
            yield Shown(f"{name}_bucket", labels)
            yield Shown(f"{name}_count", labels - {"le"})
            yield Shown(f"{name}_sum", labels - {"le"})
        else:
            yield Shown(f"{name}_total" if counted.lasting else name, labels)


SHOWN = {each.name: each for each in shown()}


def promtool(*arguments: str, text: bytes = b"") -> tuple[int, str]:
    """Its status, and what it says."""
    result = subprocess.run(
        ["promtool", *arguments],
        check=False,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )
    return result.returncode, result.stdout.decode()


class TextTests(SynchronousTestCase):
    def test_types(self) -> None:
        self.assertEqual(
            {name: family.type for name, family in families(SAMPLE).items()},
            {f"authproxy_{counted.name}": type_of(counted) for counted in COUNTED},
        )
        self.assertEqual(set(families({})), set(families(SAMPLE)))

    def test_numbers(self) -> None:
        seen = families({
            "requests": {"x\tGET\t2xx\t1.1": 7},
            "refused": {'a "b"\n': 1},
            "exchanges": {"": 3},
        })  # fmt: skip
        [sample] = seen["authproxy_requests"].samples
        self.assertEqual((sample.name, sample.value), ("authproxy_requests_total", 7.0))
        self.assertEqual(
            sample.labels, {"site": "x", "method": "GET", "status": "2xx", "version": "1.1"}
        )
        [refused] = seen["authproxy_refused"].samples
        self.assertEqual((refused.labels, refused.value), ({"reason": 'a "b"\n'}, 1.0))
        self.assertEqual(seen["authproxy_exchanges"].samples[0].value, 3.0)

    def test_buckets_are_cumulative(self) -> None:
        of = {"x\t0.001": 1.0, "x\t0.5": 2.0, "x\t+Inf": 4.0, "x\tsum": 99.5, "y\tsum": 0.0}
        samples = families({"request_seconds": of})["authproxy_request_seconds"].samples
        buckets = {(s.labels["site"], s.labels["le"]): s.value for s in samples if "le" in s.labels}
        self.assertEqual([le for site, le in buckets if site == "x"], list(BUCKETS))
        self.assertEqual(buckets["x", "0.001"], 1)
        self.assertEqual(buckets["x", "0.25"], 1)
        self.assertEqual(buckets["x", "0.5"], 3)
        self.assertEqual(buckets["x", "60.0"], 3)
        self.assertEqual(buckets["x", "+Inf"], 7)
        ends = [(s.name, s.value) for s in samples if s.labels == {"site": "x"}]
        name = "authproxy_request_seconds"
        self.assertEqual(ends, [(f"{name}_count", 7), (f"{name}_sum", 99.5)])

    @WITH_PROMTOOL
    def test_promtool_has_no_objection(self) -> None:
        for sample in (SAMPLE, {}):
            text = metrics.text(lambda sample=sample: sample)  # type: ignore[misc]
            self.assertEqual(promtool("check", "metrics", text=text), (0, ""))


def expressions(node: Any) -> Iterator[str]:
    """All PromQL expressions of a dashboard."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name in ("expr", "query") and isinstance(value, str):
                yield value
            yield from expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value)


def raised(series: dict[str, str], alerts: list[str]) -> dict[str, Any]:
    """A test of promtool's: these numbers, one a minute, raise these alerts, seen after 88."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": of} for name, of in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": "88m",
                "exp_samples": [
                    {"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts
                ],
            }
        ],
    }


class ShippedTests(SynchronousTestCase):
    """The dashboard, the alerts and the page speak of what there is."""

    def check(self, expression: str) -> None:
        """Each metric exists, and each label by which something is selected or summed."""
        names = re.findall(r"\bauthproxy_\w+", expression)
        if not names:
            return
        labels: set[str] = set()
        for name in names:
            self.assertIn(name, SHOWN, expression)
            labels |= SHOWN[name].labels
        for matchers in re.findall(r"authproxy_\w+\{([^}]*)\}", expression):
            for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers):
                self.assertIn(label, labels | {"job", "instance"}, expression)
        for grouping in re.findall(r"\b(?:by|without)\s*\(([^)]*)\)", expression):
            for label in re.findall(r"\w+", grouping):
                self.assertIn(label, labels | {"job", "instance"}, expression)

    def test_dashboard(self) -> None:
        dashboard = json.loads(DASHBOARD.read_text())
        variables = [v for v in dashboard["templating"]["list"] if v["type"] == "query"]
        found = [*expressions(dashboard["panels"]), *expressions(variables)]
        self.assertGreater(len(found), 15)
        for expression in found:
            self.assertIn("authproxy_", expression)
            self.check(expression)
        ids = [panel["id"] for panel in dashboard["panels"]]
        self.assertEqual(len(set(ids)), len(ids))
        self.assertEqual(dashboard["uid"], "authproxy")

    def test_panels_do_not_overlap(self) -> None:
        taken: dict[tuple[int, int], str] = {}
        for panel in json.loads(DASHBOARD.read_text())["panels"]:
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24)
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertNotIn((x, y), taken, panel["title"])
                    taken[x, y] = panel["title"]

    def test_alerts(self) -> None:
        text = ALERTS.read_text()
        found = re.findall(r"^ +expr: (?:\|\n)?((?:.|\n)*?)^ +(?:for|labels):", text, re.MULTILINE)
        self.assertEqual(len(found), text.count("- alert:"))
        self.assertGreater(len(found), 5)
        for expression in found:
            self.check(expression)

    @WITH_PROMTOOL
    def test_promtool_takes_the_alerts(self) -> None:
        status, words = promtool("check", "rules", str(ALERTS))
        self.assertEqual(status, 0, words)
        self.assertIn(f"{ALERTS.read_text().count('- alert:')} rules found", words)

    @WITH_PROMTOOL
    def test_alerts_are_raised(self) -> None:
        """By numbers that mean trouble, and not by those that do not."""
        quiet = {
            'up{job="authproxy"}': "1x90",
            'authproxy_requests_total{site="a", status="2xx"}': "0+600x90",
            'authproxy_requests_total{site="a", status="5xx"}': "0+6x90",
            'authproxy_upstream_faults_total{site="a", reason="cut"}': "0+1x90",
            'authproxy_upstream_first_byte_seconds_bucket{site="a", le="2.5"}': "0+600x90",
            'authproxy_upstream_first_byte_seconds_bucket{site="a", le="5.0"}': "0+606x90",
            'authproxy_upstream_first_byte_seconds_bucket{site="a", le="+Inf"}': "0+606x90",
            'authproxy_upstream_waiting{site="a"}': "0x90",
            'authproxy_upstream_up{site="a", upstream="b"}': "2x90",
            'authproxy_websockets{path="/ws/outpost/"}': "0x90",
            'authproxy_certificate_expiry_timestamp_seconds{site="a"}': "2000000x90",
            f'authproxy_failed_openings_total{{reason="{REFUSED}"}}': "0+1x90",
            'authproxy_dropped_fields_total{field="x-forwarded-for"}': "0+60x90",
            "authproxy_worker_restarts_total": "0x30 1x60",
            "authproxy_access_lines_lost_total": "3x90",
            "authproxy_last_reload_successful": "0x5 1x85",
        }
        trouble = {
            "AuthproxyDown": {'up{job="authproxy"}': "1x30 0x60"},
            "AuthproxyErrors": {'authproxy_requests_total{site="a", status="5xx"}': "0+90x90"},
            "AuthproxyUpstreamFaults": {
                'authproxy_upstream_faults_total{site="a", reason="cut"}': "0+20x90"
            },
            "AuthproxyUpstreamDown": {'authproxy_upstream_up{site="a", upstream="b"}': "2x30 0x60"},
            "AuthproxyUpstreamSlow": {
                'authproxy_upstream_first_byte_seconds_bucket{site="a", le="5.0"}': "0+700x90",
                'authproxy_upstream_first_byte_seconds_bucket{site="a", le="+Inf"}': "0+700x90",
            },
            "AuthproxyRequestsWait": {'authproxy_upstream_waiting{site="a"}': "3x90"},
            "AuthproxyOutpostsGone": {'authproxy_websockets{path="/ws/outpost/"}': "5x60 0x30"},
            "AuthproxyCertificateExpires": {
                'authproxy_certificate_expiry_timestamp_seconds{site="a"}': "900000x90"
            },
            "AuthproxyCertificateRefused": {
                f'authproxy_failed_openings_total{{reason="{REFUSED}"}}': "0+20x90"
            },
            "AuthproxyProxyNotTrusted": {
                'authproxy_dropped_fields_total{field="x-forwarded-for"}': "0+600x90"
            },
            "AuthproxyReloadRefused": {"authproxy_last_reload_successful": "1x30 0x60"},
            "AuthproxyWorkersDie": {"authproxy_worker_restarts_total": "0+1x90"},
            "AuthproxyAccessLinesLost": {"authproxy_access_lines_lost_total": "0+1x90"},
        }
        expired = {'authproxy_certificate_expiry_timestamp_seconds{site="a"}': "900x90"}
        tests = [raised(quiet, [])]
        tests += [raised(quiet | change, [alert]) for alert, change in trouble.items()]
        both = ["AuthproxyCertificateExpires", "AuthproxyCertificateExpired"]
        tests.append(raised(quiet | expired, both))
        known = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
        self.assertEqual({*trouble, *both}, known)
        path = Path(self.mktemp())
        path.write_text(json.dumps({"rule_files": [str(ALERTS)], "tests": tests}))
        status, words = promtool("test", "rules", str(path))
        self.assertEqual(status, 0, words)

    def test_the_page_names_every_metric_and_no_other(self) -> None:
        """With its labels."""
        page = PAGE.read_text()
        rows = re.findall(r"^\| `(authproxy_\w+)(?:\{([\w, ]+)\})?` \|", page, re.MULTILINE)
        said = {name: frozenset(re.findall(r"\w+", labels)) for name, labels in rows}
        self.assertEqual(len(said), len(rows))
        suffixes = {True: "_total", False: ""}
        self.assertEqual(
            said,
            {
                f"authproxy_{counted.name}"
                + suffixes[counted.lasting and not counted.is_histogram]
                : frozenset(counted.labels) - {"le"}
                for counted in COUNTED
            },
        )  # fmt: skip
        for name in re.findall(r"\bauthproxy_\w+", page):
            self.assertIn(name, said.keys() | SHOWN.keys())

    def test_the_page_names_every_alert(self) -> None:
        alerts = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
        self.assertEqual(
            set(re.findall(r"^\| `(Authproxy\w+)` \|", PAGE.read_text(), re.MULTILINE)), alerts
        )
