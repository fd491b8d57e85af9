"""Curves in a terminal: one line of eight heights."""

from __future__ import annotations

import math
from collections.abc import Sequence

HEIGHTS = "▁▂▃▄▅▆▇█"
WIDTH = 60


def curve(values: Sequence[float], width: int = WIDTH, bounds: tuple[float, float] | None = None) -> str:
    """`0.02 ▁▂▄▇█ 0.97`: first and last value around the curve; longer ones are averaged into `width` columns.

    `bounds`: the values of the lowest and the highest sign, for curves that are to be compared; else their own.
    """
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "no finite value"
    columns = [average(known, place, min(width, len(known))) for place in range(min(width, len(known)))]
    low, high = bounds or (min(columns), max(columns))
    step = (high - low) / (len(HEIGHTS) - 1)
    drawn = "".join(HEIGHTS[round((value - low) / step) if step else 0] for value in columns)
    return f"{known[0]:.4g} {drawn} {known[-1]:.4g}"


def average(values: Sequence[float], place: int, count: int) -> float:
    """The mean of the values that fall into a column."""
    first, behind = len(values) * place // count, len(values) * (place + 1) // count
    return math.fsum(values[first:behind]) / (behind - first)
