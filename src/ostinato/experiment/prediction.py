"""Whether one more run is like the runs of its group: the 95 % prediction interval of each final evaluation metric."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from ostinato.experiment.finding import run_folders
from ostinato.experiment.reading import number, read_or_empty, state_of
from ostinato.experiment.row_differences import NOT_REPRODUCIBLE, rows_of

FEWEST = 3
# Student's t at 0.975 for 2, 3, ... degrees of freedom
T: tuple[float, ...] = (
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
    2.120,
    2.110,
)
T += (2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)


def prediction_interval(values: Sequence[float]) -> tuple[float, float]:
    """Where one more value lies in 95 % of cases, if all are normal: mean +- t s sqrt(1 + 1/n); n >= 3."""
    degrees = len(values) - 1
    t = T[degrees - 2] if degrees - 2 < len(T) else 1.960 + 2.46 / degrees
    half = t * statistics.stdev(values) * math.sqrt(1 + 1 / len(values))
    return statistics.fmean(values) - half, statistics.fmean(values) + half


def final_evaluation(run: Path) -> dict[str, float]:
    """The metrics of a run's last evaluation; {} if it made none."""
    rows = [row for (_, kind), row in rows_of(run).items() if kind == "eval"]
    return {name: number(value) for name, value in rows[-1].items() if name not in NOT_REPRODUCIBLE} if rows else {}


def group_of(run: Path) -> list[Path]:
    """The completed runs beside it that asked the same with any seed, itself included, reruns left out."""
    group = read_or_empty(run / "metadata.json").get("hashes", {}).get("group")
    found = []
    for folder in run_folders(run.parent):
        metadata = read_or_empty(folder / "metadata.json")
        same = group is not None and metadata.get("hashes", {}).get("group") == group
        if same and not (metadata.get("lineage") or {}).get("reproduces") and state_of(folder) == "completed":
            found.append(folder)
    return found


def like_its_group(rerun: Path, group: Sequence[Path]) -> tuple[bool, str]:
    """Whether every final evaluation metric of a rerun is what the group lets expect; and the reason."""
    own, others = final_evaluation(rerun), [final_evaluation(run) for run in group]
    others = [values for values in others if values.keys() == own.keys()]
    if not own:
        return False, "no evaluation to judge by"
    if len(others) < FEWEST:
        return False, f"{len(others)} completed runs of its group, {FEWEST} are needed to judge statistically"
    for name, value in own.items():
        low, high = prediction_interval([values[name] for values in others])
        if not low <= value <= high:
            return False, f"{name} {value:.6g} is not in [{low:.6g}, {high:.6g}], from {len(others)} runs"
    return True, f"every final evaluation metric is as {len(others)} runs of its group let expect"
