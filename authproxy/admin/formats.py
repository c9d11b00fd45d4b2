"""Owns how numbers are written on the page. page.js has the same forms: change both.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

NOTHING = "\u2013"  # what is not known


def count(value: float) -> str:
    """A whole number: 12,345."""
    return f"{value:,.0f}"


def rate(value: float) -> str:
    """So many a second: one digit more as long as they are few."""
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def duration(value: float) -> str:
    """A latency, from seconds: 0.8 ms, 42 ms, 1.25 s."""
    if value < 0.00995:
        return f"{value * 1000:.1f}".removesuffix(".0") + " ms"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    return f"{value:.2f}".rstrip("0").rstrip(".") + " s" if value < 9.995 else f"{value:.0f} s"


def share(value: float) -> str:
    """A part of a whole: 0.25 %, 12 %."""
    percent = value * 100
    if percent == 0 or percent >= 9.95:
        return f"{percent:.0f} %"
    return f"{percent:.1f} %" if percent >= 0.095 else "< 0.1 %"


def octets(value: float) -> str:
    """Octets a second: 12 kB/s."""
    for unit in ("B/s", "kB/s", "MB/s"):
        if value < 999.5:
            return (
                f"{value:.0f} {unit}" if unit == "B/s" or value >= 9.95 else f"{value:.1f} {unit}"
            )
        value /= 1000
    return f"{value:.1f} GB/s"


def age(value: float) -> str:
    """A length of time in its two largest units: 3 d 4 h, 12 min, 40 s."""
    seconds = int(value)
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    if hours < 24:
        return f"{hours} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


def moment(value: float) -> str:
    """A time of the wall clock in UTC: 2026-02-01 12:00:00."""
    return f"{datetime.fromtimestamp(int(value), UTC):%Y-%m-%d %H:%M:%S}"


FORMS: dict[str, Callable[[float], str]] = {
    "count": count, "rate": rate, "duration": duration, "share": share, "age": age,
    "moment": moment, "octets": octets,
}  # fmt: skip


def shown(form: str, value: float | None) -> str:
    """A value in this form."""
    return NOTHING if value is None else FORMS[form](value)
