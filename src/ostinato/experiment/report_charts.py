"""What a report draws: one chart per metric, a line per run, a band per group of seeds, within a budget of points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ostinato.experiment import curves
from ostinato.experiment.curves import Points

FIRST_BUDGET = 24_000  # points of the charts shown at once: 2,000 for each of two runs
FURTHER_BUDGET = 10_000  # and of all others; both together some 450 kB
FULL_BUDGET_RUNS = 16  # of more runs the tables take the room
FIRST = (  # what is looked at first, in this order
    "validation/reward/mean",
    "reward/mean",
    "validation/accuracy",
    "validation/loss",
    "loss",
    "accuracy",
    "rewards/accuracy",
    "validation/token_accuracy",
    "validation/perplexity",
    "entropy",
    "approx_kl",
    "grad_norm",
    "learning_rate",
)
SHOWN_AT_ONCE = 6
Columns = dict[str, Points]


def charts(columns: Sequence[Columns], groups: Sequence[Sequence[int]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Charts in the order in which they are looked at, and the metrics for which there was no room.

    `columns`: each run's points by metric. `groups`: the numbers of runs that differ in the seed alone.
    """
    names = ordered({name for run in columns for name in run})
    drawn = [name for name in names if not constant(columns, name) and not is_error(name, names)]
    lines = {
        name: sum(name in run for run in columns) + 2 * sum(covers(columns, g, name) for g in groups) for name in drawn
    }
    found: list[dict[str, Any]] = []
    share = min(1.0, FULL_BUDGET_RUNS / max(1, len(columns)))
    room = int((FIRST_BUDGET + FURTHER_BUDGET) * share)
    for part, kept_back in ((drawn[:SHOWN_AT_ONCE], int(FURTHER_BUDGET * share)), (drawn[SHOWN_AT_ONCE:], 0)):
        limit = (room - kept_back) // max(1, sum(lines[name] for name in part))
        limit = max(curves.FEWEST_POINTS, min(curves.MOST_POINTS, limit))
        for name in part:
            chart = one_chart(name, columns, groups, limit) | {"first": name in drawn[:SHOWN_AT_ONCE]}
            cost = points_of(chart)
            if cost <= room or not found:
                found.append(chart)
                room -= cost
    drawn_names = {chart["metric"] for chart in found}
    return found, [name for name in drawn if name not in drawn_names]


def one_chart(name: str, columns: Sequence[Columns], groups: Sequence[Sequence[int]], limit: int) -> dict[str, Any]:
    """A metric's lines, and its bands where at least two runs of a group have it."""
    lines = []
    for number, run in enumerate(columns):
        if name not in run:
            continue
        drawn = curves.line(run[name], limit) | {"run": number, "last": curves.short(run[name][-1][1])}
        error = curves.errors_of(name, run)
        at = dict(run[error]) if error is not None else {}
        if error is not None and len(run[name]) <= limit:
            drawn["error"] = [curves.short(at.get(step, math.nan)) for step, _ in run[name]]
        lines.append(drawn)
    bands = [
        curves.band([columns[run][name] for run in members if name in columns[run]], limit) | {"group": group}
        for group, members in enumerate(groups)
        if covers(columns, members, name)
    ]
    return {"metric": name, "lines": lines, "bands": bands}


def points_of(chart: dict[str, Any]) -> int:
    """How much room a chart takes; a band has three values at each step."""
    return sum(len(one["step"]) for one in chart["lines"]) + 2 * sum(len(one["step"]) for one in chart["bands"])


def covers(columns: Sequence[Columns], members: Sequence[int], name: str) -> bool:
    """Whether at least two runs of a group have a metric."""
    return sum(name in columns[run] for run in members) > 1


def ordered(names: set[str]) -> list[str]:
    """What is looked at first, then what is held out, then by name, speeds last."""

    def place(name: str) -> tuple[int, str]:
        if name in FIRST:
            return FIRST.index(name), name
        return len(FIRST) + (0 if name.startswith("validation/") else 2 if name.startswith("perf/") else 1), name

    return sorted(names, key=place)


def constant(columns: Sequence[Columns], name: str) -> bool:
    """Whether a metric had one value in all runs and at all steps: a number, not a curve."""
    points = [run[name] for run in columns if name in run]
    only = points[0][0][1]
    return name not in FIRST[:7] and math.isfinite(only) and all(value == only for run in points for _, value in run)


def is_error(name: str, names: Sequence[str]) -> bool:
    """Whether it is the standard error of another metric, drawn around that."""
    return any(curves.errors_of(other, [name]) == name for other in names if other != name)


def constants(columns: Sequence[Columns]) -> dict[str, float | int | None]:
    """Metrics that never changed, with their value."""
    names = ordered({name for run in columns for name in run})
    fixed = [name for name in names if constant(columns, name)]
    return {name: curves.short(next(run[name][0][1] for run in columns if name in run)) for name in fixed}
