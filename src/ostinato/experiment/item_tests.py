"""Two runs, or two groups of runs, tested against each other item by item, task by task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ostinato.experiment.item_scores import ItemScores, averaged, read_item_scores
from ostinato.experiment.statistics import Paired, holm, paired_test


@dataclass
class TaskTest:
    """The second minus the first in one task. `p_holm`: adjusted for the number of tasks."""

    task: str
    result: Paired
    p_holm: float
    unpaired: int  # items that only one of them has


def compare_items(first: Sequence[Path], second: Sequence[Path]) -> tuple[list[TaskTest], list[str]]:
    """The tests of all tasks that both have, and why others could not be tested."""
    sides = [by_task([read_item_scores(folder) for folder in folders]) for folders in (first, second)]
    results: list[tuple[str, Paired, int]] = []
    notes: list[str] = []
    for task in sorted(sides[0].keys() | sides[1].keys()):
        runs = [side.get(task, []) for side in sides]
        if len(runs[0]) < len(first) or len(runs[1]) < len(second):
            notes.append(f"{task}: not all of the runs have it")
        elif len({run.task_hash for side in runs for run in side}) > 1:
            notes.append(f"{task}: not the same task: other items, prompts or scoring (task_hash)")
        else:
            a, b = averaged(runs[0]), averaged(runs[1])
            items = [item for item in a.scores if item in b.scores]
            if items:
                unpaired = max(len(run.scores) for side in runs for run in side) - len(items)
                results.append((task, tested(a, b, items), unpaired))
            else:
                notes.append(f"{task}: no item that all of the runs have")
    adjusted = holm([result.p_value for _, result, _ in results])
    return [TaskTest(t, result, p, left) for (t, result, left), p in zip(results, adjusted, strict=True)], notes


def by_task(runs: Sequence[dict[str, ItemScores]]) -> dict[str, list[ItemScores]]:
    """Task -> its scores in each run that has it."""
    return {task: [run[task] for run in runs if task in run] for task in dict.fromkeys(t for run in runs for t in run)}


def tested(a: ItemScores, b: ItemScores, items: Sequence[str]) -> Paired:
    """The paired test of the common items."""
    clusters = [a.clusters[item] for item in items]
    return paired_test([a.scores[item] for item in items], [b.scores[item] for item in items], clusters)
