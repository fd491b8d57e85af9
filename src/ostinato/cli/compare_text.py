"""How a comparison is shown in a terminal: one table, curves on one scale, tests, assertions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ostinato.cli.curves import curve
from ostinato.cli.runs_text import value_text

if TYPE_CHECKING:
    from ostinato.experiment.assertion import Answer
    from ostinato.experiment.compare import Comparison, Row
    from ostinato.experiment.statistics import Interval

PLOT_WIDTH = 60


def comparison_text(
    found: Comparison, plot: Sequence[str], tests: list[dict[str, Any]], notes: list[str], answers: Sequence[Answer]
) -> str:
    """All of it."""
    from ostinato.cli.runs_compare import letters

    names = letters(len(found.rows))
    header = ["", "run", *found.options, *found.metrics]
    lines = [[name, *row_cells(row, found)] for name, row in zip(names, found.rows, strict=True)]
    parts = [aligned([header, *lines])]
    parts += [plot_text(found.rows, names, metric) for metric in plot]
    parts += [tests_text(tests)] if tests else []
    parts += ["\n".join(f"note: {note}" for note in notes)] if notes else []
    parts += ["\n".join(answer_text(answer) for answer in answers)] if answers else []
    return "\n\n".join(parts)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def row_cells(row: Row, found: Comparison) -> list[str]:
    """Label, options, metrics of one row."""
    options = [", ".join(option_text(value) for value in row.options[key]) for key in found.options]
    return [row.label, *options, *(interval_text(row.metrics[name], len(row.members)) for name in found.metrics)]


def option_text(value: Any) -> str:
    """A config's value as configs write it."""
    if value is None or isinstance(value, bool):
        return {None: "-", True: "true", False: "false"}[value]
    return repr(value) if isinstance(value, float) else str(value)


def interval_text(interval: Interval | None, runs: int) -> str:
    """`0.5230 ± 0.0220 (3)`; a single run has no interval."""
    if interval is None:
        return ""
    mean = value_text(float(interval.mean))
    if interval.half_width is not None:
        return f"{mean} ± {value_text(interval.half_width)} ({interval.n})"
    return mean if runs == 1 else f"{mean} ({interval.n})"


def plot_text(rows: Sequence[Row], names: Sequence[str], metric: str) -> str:
    """A curve per row, all on one scale; of repetitions the mean, and the bounds of its interval above and below."""
    curves = [row.curve(metric) for row in rows]
    drawn: list[tuple[str, str, list[float]]] = []
    for name, row, points in zip(names, rows, curves, strict=True):
        steps = (
            f"steps {points[0][0]}-{points[-1][0]}" if points else "no common steps" if row.members[1:] else "no rows"
        )
        half = [interval.half_width for _, interval in points]
        mean = [interval.mean for _, interval in points]
        if points and None not in half:
            drawn.append(("", "+95 %", [m + (h or 0.0) for m, h in zip(mean, half, strict=True)]))
        drawn.append((f"{name}  {row.label}", steps, mean))
        if points and None not in half:
            drawn.append(("", "-95 %", [m - (h or 0.0) for m, h in zip(mean, half, strict=True)]))
    finite = [value for _, _, values in drawn for value in values if math.isfinite(value)]
    bounds = (min(finite), max(finite)) if finite else None
    lines = [[label, steps, curve(values, PLOT_WIDTH, bounds) if values else ""] for label, steps, values in drawn]
    return f"{metric}\n{aligned(lines)}"


def tests_text(tests: Sequence[dict[str, Any]]) -> str:
    """B minus A by task, its interval, the test, and what could have been seen."""
    lines = [["B - A by item", "difference", "p", "p (Holm)", "detectable", "items", "test"]]
    for test in tests:
        found = test["result"]
        width = f" ± {value_text(found['half_width'])}" if found["half_width"] is not None else ""
        items = f"{found['items']}" + (f" in {found['clusters']} clusters" if found["clusters"] else "")
        items += f", {test['unpaired']} unpaired" if test["unpaired"] else ""
        numbers = [p_text(found["p_value"]), p_text(test["p_holm"]), value_text(found["detectable"])]
        lines.append([test["task"], f"{found['difference']:+.4f}{width}", *numbers, items, found["test"]])
    return aligned(lines)


def p_text(p_value: float) -> str:
    """Few digits, and none that are not there."""
    return f"{p_value:.4f}" if p_value >= 1e-4 else f"{p_value:.1e}"


def answer_text(answer: Answer) -> str:
    """Whether an assertion holds, with the numbers."""
    return f"{'holds' if answer.holds else 'FALSE'}: {answer.text}   ({answer.left:.6g} against {answer.right:.6g})"
