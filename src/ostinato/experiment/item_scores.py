"""Scores item by item, as evaluations leave them: `outputs/eval/<task>/samples.jsonl` of a run.

A row is `{"id": ..., "score": 0 | 1 | number, "task_hash": ..., "cluster": optional}`, other keys are free. Items of
one `cluster` (questions about one text, answers to one prompt) are not independent of each other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError


@dataclass
class ItemScores:
    """The scores of one run in one task, by item."""

    task: str
    task_hash: str | None
    scores: dict[str, float] = field(default_factory=dict)
    clusters: dict[str, Hashable] = field(default_factory=dict)


def read_item_scores(run: Path) -> dict[str, ItemScores]:
    """Task -> scores. A torn last line is no row; raises RefusedError for a damaged file, by line."""
    paths = sorted((run / "outputs" / "eval").glob("*/samples.jsonl"))
    return {path.parent.name: read_task(path) for path in paths}


def read_task(path: Path) -> ItemScores:
    """The scores in one file."""
    found: ItemScores | None = None
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        place = f"{path}:{number}"
        row = _row(line, place)
        item, score, task_hash = json.dumps(row["id"], sort_keys=True), float(row["score"]), row["task_hash"]
        found = found or ItemScores(path.parent.name, task_hash)
        if task_hash != found.task_hash:
            raise RefusedError(f"{place}: damaged: task_hash {task_hash!r}, the lines before have {found.task_hash!r}")
        if item in found.scores:
            raise RefusedError(f"{place}: damaged: id {item} is there twice")
        found.scores[item] = score
        cluster = row.get("cluster")
        found.clusters[item] = ("item", item) if cluster is None else ("cluster", json.dumps(cluster, sort_keys=True))
    return found or ItemScores(path.parent.name, None)


def _row(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        sound = {"id", "score", "task_hash"} <= row.keys() and math.isfinite(float(row["score"]))
    except (ValueError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise RefusedError(f"{place}: damaged: {line[:60]!r} is no {{id, score, task_hash}} with a finite score")
    return row


def averaged(runs: Sequence[ItemScores]) -> ItemScores:
    """Repetitions as one: the mean score of each item that all of them have."""
    common = [item for item in runs[0].scores if all(item in run.scores for run in runs)]
    scores = {item: math.fsum(run.scores[item] for run in runs) / len(runs) for item in common}
    return ItemScores(runs[0].task, runs[0].task_hash, scores, {item: runs[0].clusters[item] for item in common})
