"""Reading snapshots, and what comes of two of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from authproxy.admin.figures import by, histograms, merged, quantile, since, total
from authproxy.admin.history import EVERY, KEEP, History, Sample, Window, between
from authproxy.counters import Snapshot

INF = float("inf")


class FiguresTests(SynchronousTestCase):
    def test_total(self) -> None:
        self.assertEqual(total({"a": {"": 1, "x\ty": 2}}, "a"), 3)
        self.assertEqual(total({}, "a"), 0)

    def test_by_a_label(self) -> None:
        counts: Snapshot = {"a": {"s\tGET": 1, "s\tPOST": 2, "t\tGET": 4}}
        self.assertEqual(by(counts, "a", 0), {"s": 3, "t": 4})
        self.assertEqual(by(counts, "a", -1), {"GET": 5, "POST": 2})
        self.assertEqual(by(counts, "a", -1, first="s"), {"GET": 1, "POST": 2})

    def test_labels_that_are_not_there(self) -> None:
        self.assertEqual(by({"a": {"": 7}}, "a", 0), {})
        self.assertEqual(by({"a": {"": 7}}, "a", -1), {})
        self.assertEqual(by({"a": {"x": 7}}, "a", 2), {})
        self.assertEqual(by({"a": {"x": 7}}, "a", -2), {})

    def test_histograms(self) -> None:
        counts: Snapshot = {"h": {"s\t0.1": 1, "s\t+Inf": 2, "s\tsum": 9, "t\t0.1": 4, "odd": 1}}
        found = histograms(counts, "h")
        self.assertEqual(found, {"s": {0.1: 1, INF: 2}, "t": {0.1: 4}})
        self.assertEqual(merged(found), {0.1: 5, INF: 2})
        self.assertEqual(histograms({"h": {"0.1": 1}}, "h"), {"": {0.1: 1}})

    def test_since(self) -> None:
        """A worker that died may have counted more than anybody heard."""
        self.assertEqual(since({0.1: 5}, {0.1: 3, 1.0: 2}), {0.1: 0, 1.0: 2})


class QuantileTests(SynchronousTestCase):
    def test_within_a_bucket(self) -> None:
        buckets = {0.1: 0.0, 0.2: 10.0, INF: 0.0}
        self.assertAlmostEqual(quantile(buckets, 0.5) or 0, 0.15)
        self.assertAlmostEqual(quantile(buckets, 1.0) or 0, 0.2)

    def test_from_zero(self) -> None:
        self.assertAlmostEqual(quantile({0.1: 4.0, INF: 0.0}, 0.25) or 0, 0.025)

    def test_across_buckets(self) -> None:
        self.assertAlmostEqual(quantile({1.0: 50.0, 2.0: 25.0, 4.0: 25.0}, 0.99) or 0, 3.92)

    def test_beyond_the_last_bound(self) -> None:
        self.assertEqual(quantile({0.1: 1.0, 10.0: 0.0, INF: 99.0}, 0.5), 10.0)

    def test_nothing(self) -> None:
        self.assertIsNone(quantile({}, 0.5))
        self.assertIsNone(quantile({0.1: 0.0}, 0.5))


def counts(requests: float, errors: float = 0, fast: float = 0, **more: float) -> Snapshot:
    return {
        "requests": {"s\tGET\t2xx\t2": requests - errors, "s\tGET\t5xx\t2": errors},
        "request_seconds": {"s\t0.1": fast, "s\t+Inf": 0, "s\tsum": 1},
        "websockets": {"/ws/": more.get("websockets", 0)},
        "content_sent_bytes": {"s": more.get("sent", 0)},
    }


class HistoryTests(SynchronousTestCase):
    def test_between(self) -> None:
        before, after = (
            Sample.of(10, counts(100, 5, 50)),
            Sample.of(20, counts(120, 10, 70, sent=5)),
        )
        seen = between(before, after)
        self.assertEqual((seen.requests, seen.errors, seen.error_share), (2.0, 0.5, 0.25))
        self.assertAlmostEqual(seen.p50 or 0, 0.05)
        self.assertEqual((seen.sent, seen.received), (0.5, 0.0))
        of_site = between(before, after, "s")
        self.assertEqual((of_site.requests, of_site.p50), (2.0, seen.p50))
        self.assertIsNone(of_site.sent)

    def test_a_site_without_a_request(self) -> None:
        other = between(Sample.of(0, counts(1)), Sample.of(1, {}), "t")
        self.assertEqual((other.requests, other.p50), (0.0, None))

    def test_sites_that_are_not_counted_by_name(self) -> None:
        before, after = Sample.of(0, {"requests": {"": 1}}), Sample.of(1, {"requests": {"": 3}})
        self.assertEqual(between(before, after).requests, 2.0)
        self.assertEqual(between(before, after, "s"), Window())

    def test_numbers_never_go_back(self) -> None:
        seen = between(Sample.of(0, counts(100)), Sample.of(1, counts(90)))
        self.assertEqual((seen.requests, seen.error_share), (0.0, None))

    def test_no_time_has_passed(self) -> None:
        self.assertEqual(between(Sample.of(1, counts(1)), Sample.of(1, counts(2))), Window())
        self.assertEqual(between(None, Sample.of(1, counts(2))), Window())

    def test_points(self) -> None:
        history = History()
        for n in range(4):
            history.add(n * EVERY, counts(n * 10, websockets=n))
        self.assertEqual([point.window.requests for point in history.points], [2.0] * 3)
        self.assertEqual([point.websockets for point in history.points], [1, 2, 3])

    def test_memory_is_bounded(self) -> None:
        history = History()
        for n in range(3 * KEEP):
            history.add(n * EVERY, counts(n))
        self.assertEqual((len(history.points), len(history._samples)), (KEEP, 13))

    def test_before(self) -> None:
        history = History()
        self.assertIsNone(history.before(0, 10))
        for n in range(3):
            history.add(n * 5.0, counts(n))
        self.assertEqual(getattr(history.before(12, 10), "at", None), 0.0)
        self.assertEqual(getattr(history.before(12, 5), "at", None), 5.0)
        self.assertEqual(getattr(history.before(12, 60), "at", None), 0.0)  # what there is
