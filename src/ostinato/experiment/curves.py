"""Curves for a page: the rows that count as lines of few points, their clocks, and seeds as mean and band."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ostinato.experiment.facts import NOT_METRICS
from ostinato.experiment.reading import number

MOST_POINTS = 2000  # of one line
FEWEST_POINTS = 40
CLOCK_POINTS = 400
ERROR_SUFFIXES = ("/standard_error", "_standard_error")
PERFORMANCE = ("tokens_per_second", "seconds", "rollout_tokens_per_second")
Row = dict[str, Any]
Points = list[tuple[int, float]]  # step, value; not finite where the run's value is not


def columns(rows: Iterable[Row]) -> dict[str, Points]:
    """Every metric's points, in the order of the rows; speeds as `perf/...`."""
    found: dict[str, Points] = {}
    for row in rows:
        perf = row.get("perf")
        speeds = {f"perf/{name}": perf.get(name) for name in PERFORMANCE} if isinstance(perf, dict) else {}
        for name, value in (row | speeds).items():
            if name not in NOT_METRICS and _is_number(value):
                found.setdefault(name, []).append((row["step"], number(value)))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) or value in ("nan", "inf", "-inf")


def reduced(values: Sequence[float], limit: int = MOST_POINTS) -> list[int]:
    """Which values to keep of a line, at most `limit`: of each bucket the smallest and the largest, in their order;
    the first and the last; where a bucket has one that is not finite, that one instead of the smallest."""
    count = len(values)
    if count <= limit:
        return list(range(count))
    buckets = max(1, (limit - 2) // 2)
    kept = {0, count - 1}
    for bucket in range(buckets):
        places = range(count * bucket // buckets, count * (bucket + 1) // buckets)
        finite = [place for place in places if math.isfinite(values[place])]
        broken = next((place for place in places if not math.isfinite(values[place])), None)
        if finite:
            kept.add(max(finite, key=values.__getitem__))
        kept.add(min(finite, key=values.__getitem__) if broken is None else broken)
    return sorted(kept)


def line(points: Points, limit: int) -> dict[str, list[Any]]:
    """A line as JSON: steps as differences to the one before, values of six digits, null where not finite."""
    chosen = [points[place] for place in reduced([value for _, value in points], limit)]
    return {"step": differences([step for step, _ in chosen]), "value": [short(value) for _, value in chosen]}


def band(lines: Sequence[Points], limit: int) -> dict[str, list[Any]]:
    """Seeds as one: their mean, smallest and largest value, where at least two have one at that step."""
    at: dict[int, list[float]] = {}
    for points in lines:
        for step, value in points:
            if math.isfinite(value):
                at.setdefault(step, []).append(value)
    steps = sorted(step for step, values in at.items() if len(values) > 1)
    means = [math.fsum(at[step]) / len(at[step]) for step in steps]
    chosen = reduced(means, limit)
    kept = [steps[place] for place in chosen]
    return {
        "step": differences(kept),
        "value": [short(means[place]) for place in chosen],
        "low": [short(min(at[step])) for step in kept],
        "high": [short(max(at[step])) for step in kept],
    }


def clock(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Where each step is in time and tokens, at up to 400 steps: seconds of training (pauses between segments left
    out) and tokens trained on since the run began; between them a straight line is near enough."""
    marks: list[tuple[int, float, float]] = []
    seconds = tokens = 0.0
    before: Row | None = None
    for row in rows:
        perf = row.get("perf")
        spent = number(perf.get("seconds", 0)) if isinstance(perf, dict) else 0.0
        if before is None or before.get("segment") != row.get("segment"):
            marks += [(row["step"] - 1, seconds, tokens)] if before is None else []
            seconds += spent if math.isfinite(spent) else 0.0
        else:
            passed = number(row.get("time")) - number(before.get("time"))
            seconds += max(0.0, passed) if math.isfinite(passed) else 0.0
        amount = number(row.get("tokens", 0))
        tokens += amount if math.isfinite(amount) else 0.0
        marks.append((row["step"], seconds, tokens))
        before = row
    places = sorted({round(i * (len(marks) - 1) / (CLOCK_POINTS - 1)) for i in range(CLOCK_POINTS)}) if marks else []
    kept = marks if len(marks) <= CLOCK_POINTS else [marks[place] for place in places]
    return {
        "step": [step for step, _, _ in kept],
        "seconds": [round(value, 2) for _, value, _ in kept],
        "tokens": [int(value) for _, _, value in kept],
    }


def errors_of(name: str, names: Iterable[str]) -> str | None:
    """The metric that is the standard error of another: `a/mean` and `a/standard_error`, or of the same name."""
    stems = (name, name.removesuffix("/mean"))
    return next((stem + end for stem in stems for end in ERROR_SUFFIXES if stem + end in names), None)


def differences(steps: Sequence[int]) -> list[int]:
    """The first, then what is added each time: short in JSON."""
    return [step - before for before, step in zip([0, *steps], steps, strict=False)]


def short(value: float) -> float | int | None:
    """Six digits, as many as a screen can show; null for what JSON cannot hold."""
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.6g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
