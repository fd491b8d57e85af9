"""Runs side by side: the options that differ, metrics as means with intervals over repetitions, curves."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ostinato.core.errors import UserError
from ostinato.experiment.facts import NOT_METRICS, best_values
from ostinato.experiment.reading import counting, number, read_or_empty, read_rows, state_of
from ostinato.experiment.selecting import config_leaves
from ostinato.experiment.statistics import Interval, mean_interval

NAMING = ("_hash_", "experiment.name", "experiment.output_root", "experiment.notes")  # options that say which run it is
NOT_FINITE = ("nan", "inf", "-inf")  # as rows have them
Value = Any


@dataclass
class Member:
    """One run, read when something of it is asked for."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def options(self) -> dict[str, Value]:
        """Its config's leaves, without those that name it."""
        return {key: value for key, value in config_leaves(self.folder).items() if key.partition("[")[0] not in NAMING}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """`train` and `eval` rows that count."""
        return [row for row in counting(read_rows(self.folder)) if row["kind"] in ("train", "eval")]

    @cached_property
    def best(self) -> dict[str, dict[str, float]]:
        return best_values(self.rows)

    def value(self, metric: str, at: str | int = "last") -> float | None:
        """A metric's last or best value, or that of a step; None where there is none."""
        if at == "best":
            return self.best[metric]["value"] if metric in self.best else None
        rows = [row for row in self.rows if metric in row and at in ("last", row["step"])]
        return number(rows[-1][metric]) if rows else None

    def curve(self, metric: str) -> dict[int, float]:
        """Step -> value."""
        return {row["step"]: number(row[metric]) for row in self.rows if metric in row}

    def names(self, kind: str | None = None) -> list[str]:
        """The numbers in its rows, by name, in the order of their first appearance."""
        rows = (row for row in self.rows if kind in (None, row["kind"]))
        return list(dict.fromkeys(name for row in rows for name, value in row.items() if _is_metric(name, value)))


def _is_metric(name: str, value: Any) -> bool:
    return name not in NOT_METRICS and (isinstance(value, (int, float)) or value in NOT_FINITE)


@dataclass
class Row:
    """A run, or repetitions: runs of one group hash."""

    members: list[Member]
    options: dict[str, list[Value]] = field(default_factory=dict)
    metrics: dict[str, Interval | None] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The first run's name, and how many more there are."""
        more = len(self.members) - 1
        return self.members[0].name + (f" +{more}" if more else "")

    def values(self, metric: str, at: str | int) -> list[float]:
        """Of the runs that have any."""
        return [value for run in self.members if (value := run.value(metric, at)) is not None]

    def curve(self, metric: str) -> list[tuple[int, Interval]]:
        """Mean and interval at each step that all its runs have."""
        curves = [run.curve(metric) for run in self.members]
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))
        return [(step, mean_interval([curve[step] for curve in curves])) for step in steps]


@dataclass
class Comparison:
    """Rows; options that differ between them; metrics."""

    rows: list[Row]
    options: list[str]
    metrics: list[str]


def compare(
    folders: Iterable[Path], metrics: Sequence[str] = (), at: str | int = "last", group: bool = True
) -> Comparison:
    """Read the runs. Raises UserError for a metric that none of them has."""
    rows = [Row(members) for members in grouped(list(map(Member, folders)), group)]
    runs = [run for row in rows for run in row.members]
    chosen = list(metrics) or default_metrics(runs, at)
    for metric in metrics:
        known_metric(metric, runs)
        if at == "best" and not any(metric in run.best for run in runs):
            raise UserError(
                f"--at best: whether a small {metric} is better, or a large one, is not known from its name."
            )
    keys = dict.fromkeys(key for run in runs for key in run.options)
    for row in rows:
        row.options = {key: distinct(run.options.get(key) for run in row.members) for key in keys}
        row.metrics = {name: mean_interval(found) if (found := row.values(name, at)) else None for name in chosen}
    differing = [key for key in keys if any(row.options[key] != rows[0].options[key] for row in rows)]
    return Comparison(rows, differing, chosen)


def grouped(runs: Sequence[Member], group: bool) -> list[list[Member]]:
    """Runs by group hash, in the order of the first of each.

    A second run of one seed is no repetition (it must come to the same) and is alone, as is one without hashes.
    """
    found: dict[str, list[Member]] = {}
    seen: set[str] = set()
    for run in runs:
        hashes = read_or_empty(run.folder / "metadata.json").get("hashes")
        known = hashes if group and isinstance(hashes, dict) else {}
        science = str(known.get("science"))
        alone = "group" not in known or science in seen
        seen.add(science)
        found.setdefault(str(run.folder if alone else known["group"]), []).append(run)
    return list(found.values())


def default_metrics(runs: Sequence[Member], at: str | int) -> list[str]:
    """The losses, and all that evaluations gave."""
    names = [name for run in runs for name in run.names("train") if "loss" in name.rpartition("/")[2]]
    names += [name for run in runs for name in run.names("eval")]
    return [name for name in dict.fromkeys(names) if at != "best" or any(name in run.best for run in runs)]


def known_metric(metric: str, runs: Sequence[Member]) -> None:
    """Raise UserError, with the nearest names, for a metric that no run has."""
    known = list(dict.fromkeys(name for run in runs for name in run.names()))
    if metric not in known:
        near = difflib.get_close_matches(metric, known, n=3, cutoff=0.5) or known[:8]
        hint = f"Did you mean {' or '.join(near)}?" if near else "They have no rows yet."
        raise UserError(
            f"{metric}: none of {', '.join(run.name for run in runs[:5])} has a metric of this name. {hint}"
        )


def distinct(values: Iterable[Value]) -> list[Value]:
    """Different values, sorted where they can be."""
    found: list[Value] = []
    for value in values:
        if not any(value == other and type(value) is type(other) for other in found):
            found.append(value)
    return sorted(found) if all(isinstance(value, (int, float)) for value in found) else sorted(found, key=str)


def unfinished(rows: Iterable[Row]) -> dict[str, str]:
    """Run -> state, of those that are not completed: their last values are not final."""
    states = {run.name: state_of(run.folder) for row in rows for run in row.members}
    return {name: state for name, state in states.items() if state != "completed"}
