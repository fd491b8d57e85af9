"""One line per run: from its small files and the tail of its rows, so that a thousand runs take a second."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError
from ostinato.experiment.finding import run_folders
from ostinato.experiment.reading import read_or_empty, state_of
from ostinato.experiment.run_index import index_of

FILES = ("metadata.json", "status.json", "logs/metrics.jsonl")  # all that a summary is made of
TAIL_BYTES = (1 << 16, 1 << 20)
Row = dict[str, Any]


def summaries(root: Path) -> list[dict[str, Any]]:
    """A summary of every run below a root, oldest first."""
    folders = run_folders(root)
    found = [summary(folder) for folder in folders]
    if found:
        index_of(str(root)).keep_only(folder.name for folder in folders)
    return sorted(found, key=lambda run: (run["created"] or "", run["name"]))


def summary(folder: Path) -> dict[str, Any]:
    """What `runs list` knows of a run; times in seconds."""
    path = str(folder)
    stored = index_of(os.path.dirname(path) or ".").get(path, "summary", FILES, lambda: _read_summary(folder))
    status = {"state": stored["state"]} if stored["state"] is not None else {}
    age = _since(_time(stored["created"]), datetime.now(UTC))
    state = state_of(folder, status, clock_folder=folder.parent)
    return stored | {"state": state, "age_seconds": age, "folder": path}


def _read_summary(folder: Path) -> dict[str, Any]:
    """The part of it that its files say; the state is the one that was written."""
    try:
        metadata, status = read_or_empty(folder / "metadata.json"), read_or_empty(folder / "status.json")
    except RefusedError as error:  # of a newer ostinato: listed, not read
        metadata, status = {}, {"state": "newer", "reason": str(error)}
    train, evaluation = last_rows(folder)
    values = {**_metrics(train), **_metrics(evaluation)}
    return {
        "name": folder.name,
        "state": status.get("state"),
        "step": train.get("step", status.get("step", 0)),
        "total_steps": status.get("total_steps"),
        "algorithm": metadata.get("algorithm"),
        "model": metadata.get("model"),
        "loss": values.get("loss"),
        "validation/loss": values.get("validation/loss"),
        "created": metadata.get("created"),
        "age_seconds": None,
        "duration_seconds": _since(_time(metadata.get("created")), _time(status.get("updated"))),
        "reason": status.get("reason"),
        "seed": metadata.get("seed"),
        "tags": metadata.get("tags", []),
        "id": metadata.get("id"),
        "hashes": metadata.get("hashes", {}),
        "folder": str(folder),
        "last": values,
    }


def last_rows(folder: Path) -> tuple[Row, Row]:
    """The last `train` and the last `eval` row that counts; {} where the tail holds none."""
    train: Row = {}
    for size in TAIL_BYTES:
        data, whole = _tail(folder / "logs" / "metrics.jsonl", size)
        rewinds = [(place, row["step"]) for place, row in _backwards(data, "rewind")]
        train = train or _last(data, "train", rewinds)
        evaluation = _last(data, "eval", rewinds)
        if whole or (train and evaluation):
            break
    return train, evaluation


def _tail(path: Path, size: int) -> tuple[bytes, bool]:
    """The last complete lines of a file, and whether that is all of it."""
    try:
        with open(path, "rb", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size))
            data = file.read()
    except FileNotFoundError:
        return b"", True
    data = data[: data.rfind(b"\n") + 1]
    return (data, True) if end <= size else (data.partition(b"\n")[2], False)


def _backwards(data: bytes, kind: str) -> Iterator[tuple[int, Row]]:
    """Rows of a kind, last first, found by how each line begins and not by reading them all."""
    begin = b'{"kind":"%s"' % kind.encode()
    place = len(data)
    while (place := data.rfind(begin, 0, place)) >= 0:
        if place and data[place - 1 : place] != b"\n":
            continue
        try:
            row = json.loads(data[place : data.index(b"\n", place)])
        except ValueError:
            continue
        if isinstance(row.get("step"), int):
            yield place, row


def _last(data: bytes, kind: str, rewinds: list[tuple[int, int]]) -> Row:
    for place, row in _backwards(data, kind):
        if all(row["step"] <= step for later, step in rewinds if later > place):
            return row
    return {}


def _metrics(row: Row) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k not in ("kind", "step", "segment", "time", "data", "perf")}


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def _since(start: datetime | None, end: datetime | None) -> float | None:
    return round((end - start).total_seconds(), 3) if start and end else None
