"""The numbers behind the curves, as tables: last and best values, and evaluations with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ostinato.experiment.curves import Points, columns, errors_of
from ostinato.experiment.facts import direction
from ostinato.experiment.reading import Row
from ostinato.experiment.report_charts import constant, is_error, ordered

NORMAL_95 = 1.96  # standard errors in half of a 95 % interval


def metric_table(found: Sequence[dict[str, Points]]) -> list[dict[str, Any]]:
    """Each metric's first, last and best value per run; None where a run has it not."""
    names = ordered({name for run in found for name in run})
    shown = [name for name in names if not is_error(name, names)]
    return [{"metric": name, "cells": [cell(number, run, name) for number, run in enumerate(found)]} for name in shown]


def cell(number: int, run: dict[str, Points], name: str) -> dict[str, Any] | None:
    """First, last and best value of a run's metric, with half the 95 % interval of the last where it is known."""
    points = run.get(name)
    if not points:
        return None
    known = [point for point in points if not math.isnan(point[1])]
    better = direction(name)
    best = max(known, key=lambda point: better * point[1]) if better and known else None
    return {
        "run": number,
        "first": value_at(run, name, points[0]),
        "last": value_at(run, name, points[-1]),
        "best": value_at(run, name, best) if best else None,
    }


def value_at(run: dict[str, Points], name: str, point: tuple[int | float, float]) -> dict[str, Any]:
    """{step, value, half}: the half of its 95 % interval, None where no standard error was recorded."""
    step, value = point
    error = errors_of(name, run)
    at = dict(run[error]).get(int(step), math.nan) if error is not None else math.nan
    return {"step": step, "value": value, "half": NORMAL_95 * at if math.isfinite(at) else None}


def evaluations(counted: Sequence[Sequence[Row]]) -> list[dict[str, Any]]:
    """The same table of held-out values alone, without those that never changed."""
    found = [columns(row for row in rows if row["kind"] == "eval") for rows in counted]
    return [row for row in metric_table(found) if not constant(found, row["metric"])]
