"""Owns how a snapshot of counters is read here: tolerantly, since what is missing reads as nothing.

Pure. Knows the form of a snapshot (counters.py): label values are joined by a tab, the last one of
a histogram is the upper bound of a bucket in seconds, or "sum".
"""

from __future__ import annotations

from collections.abc import Mapping

Counts = Mapping[str, Mapping[str, float]]
Buckets = dict[float, float]  # upper bound in seconds -> how many in this bucket alone


def total(counts: Counts, name: str) -> float:
    """The sum over all labels."""
    return sum(counts.get(name, {}).values())


def by(counts: Counts, name: str, place: int, *, first: str = "") -> dict[str, float]:
    """Sums by the label at this place; with `first`, only of those whose first label that is.

    What has no such label is left out.
    """
    found: dict[str, float] = {}
    for key, value in counts.get(name, {}).items():
        labels = key.split("\t")
        if first and labels[0] != first:
            continue
        if -len(labels) <= place < len(labels) and labels[place]:
            label = labels[place]
            found[label] = found.get(label, 0) + value
    return found


def histograms(counts: Counts, name: str) -> dict[str, Buckets]:
    """The buckets of a histogram by its first label, "" where it has only the bound."""
    found: dict[str, Buckets] = {}
    for key, value in counts.get(name, {}).items():
        *labels, bound = key.split("\t")
        if bound == "sum":
            continue
        try:
            upper = float(bound)
        except ValueError:
            continue
        buckets = found.setdefault(labels[0] if labels else "", {})
        buckets[upper] = buckets.get(upper, 0) + value
    return found


def merged(several: Mapping[str, Buckets]) -> Buckets:
    """One histogram of several."""
    found: Buckets = {}
    for buckets in several.values():
        for upper, count in buckets.items():
            found[upper] = found.get(upper, 0) + count
    return found


def since(before: Buckets, after: Buckets) -> Buckets:
    """What came between two readings."""
    return {upper: max(0.0, count - before.get(upper, 0)) for upper, count in after.items()}


def quantile(buckets: Buckets, share: float) -> float | None:
    """The value that this share (0 to 1) is below, in seconds; None where there is nothing.

    Values are taken as evenly spread within a bucket. Beyond the last bound nothing is known: then
    it is that bound.
    """
    bounds = sorted(buckets)
    wanted = share * sum(buckets.values())
    if wanted <= 0:
        return None
    below, lower = 0.0, 0.0
    for upper in bounds:
        count = buckets[upper]
        if count and below + count >= wanted:
            if upper == float("inf"):
                return lower
            return lower + (upper - lower) * (wanted - below) / count
        below += count
        if upper != float("inf"):
            lower = upper
    return lower
