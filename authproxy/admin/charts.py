"""Owns the small charts: numbers to the paths of an SVG. page.js has the same sums: change both.

Pure. A chart is WIDTH by HEIGHT units, stretched to what there is; the youngest value is at the
right edge, so that a chart of a proxy that started just now grows from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

from .history import KEEP

WIDTH, HEIGHT = 1000, 100
Series = Sequence[float | None]


def top_of(*several: Series) -> float:
    """The upper end of a scale for these: 1, 2 or 5 times a power of ten, above every value."""
    most = max((value for series in several for value in series if value), default=0)
    step = 1e-3
    while True:
        for factor in (1, 2, 5):
            if step * factor >= most:
                return step * factor
        step *= 10


def line(series: Series, top: float) -> str:
    """The line through these values; nothing where there is none. A lone value is a dot."""
    parts: list[str] = []
    pen_down = False
    for x, y in _places(series, top):
        if y is None:
            pen_down = False
        elif pen_down:
            parts.append(f"L{x} {y}")
        else:
            parts.append(f"M{x} {y}h0")
            pen_down = True
    return "".join(parts)


def area(series: Series, top: float) -> str:
    """What is below the line; what is not known counts as nothing."""
    places = list(_places(series, top))
    if not places:
        return ""
    parts = [f"L{x} {HEIGHT if y is None else y}" for x, y in places]
    return f"M{places[0][0]} {HEIGHT}{''.join(parts)}L{WIDTH} {HEIGHT}Z"


def _places(series: Series, top: float) -> list[tuple[int, int | None]]:
    first = KEEP - len(series)
    return [
        (
            _rounded((first + n) * WIDTH / (KEEP - 1)),
            None if value is None else _rounded(HEIGHT - min(value / top, 1) * HEIGHT),
        )
        for n, value in enumerate(series)
    ]


def _rounded(value: float) -> int:
    """As JavaScript's Math.round has it."""
    return floor(value + 0.5)
