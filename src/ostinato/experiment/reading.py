"""Reading a run folder: no lock, no torch, works on a copy. The rows as written, those that count, and the state."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError
from ostinato.experiment.claims import is_alive, newest_segment

VERSION = 1
TYPES: dict[str, type] = {  # of the fields of metadata.json and status.json that are read; null may stand for each
    **dict.fromkeys(("name", "id", "created", "updated", "state", "reason", "algorithm", "model"), str),
    **dict.fromkeys(("hashes", "lineage", "data"), dict),
    **dict.fromkeys(("tags", "command", "code"), list),
    **dict.fromkeys(("step", "total_steps", "seed"), int),
}
Row = dict[str, Any]


def read_json(path: Path) -> dict[str, Any]:
    """One of the run's JSON files; raises OSError, ValueError if it is damaged, RefusedError if it is too new."""
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds no object")
    if isinstance(value.get("version"), int) and value["version"] > VERSION:
        raise RefusedError(f"{path}: version {value['version']}, this ostinato reads {VERSION}. Use a newer ostinato.")
    if path.name in ("metadata.json", "status.json"):
        for name, kind in TYPES.items():
            if not isinstance(value.get(name), kind | None):
                raise ValueError(f"{path.name}: {name} is {value[name]!r}")
    return value


def read_or_empty(path: Path) -> dict[str, Any]:
    """The same, and {} for what is missing or damaged."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}


def parse_rows(data: bytes, problems: list[str] | None = None) -> list[Row]:
    """The rows of complete lines; a torn last line is no row. Lines that are no rows are left out, and named."""
    rows = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line)
            complete = "kind" in row and isinstance(row["step"], int)
        except (ValueError, TypeError, KeyError):
            complete = False
        if complete:
            rows.append(row)
        elif problems is not None:
            problems.append(f"line {number} is no metrics row: {line[:80].decode(errors='replace')}")
    return rows


def read_rows(folder: Path, kind: str | None = None, problems: list[str] | None = None) -> list[Row]:
    """Every row of a run as written, in the order of writing, old tails included."""
    try:
        data = (folder / "logs" / "metrics.jsonl").read_bytes()
    except FileNotFoundError:
        return []
    return [row for row in parse_rows(data, problems) if kind is None or row["kind"] == kind]


def tail_rows(folder: Path, size: int = 1 << 16) -> list[Row]:
    """The rows in the last `size` bytes."""
    try:
        with open(folder / "logs" / "metrics.jsonl", "rb", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size))
            data = file.read()
    except FileNotFoundError:
        return []
    return parse_rows(data if end <= size else data.partition(b"\n")[2])


def counting(rows: Iterable[Row]) -> list[Row]:
    """The rows that count: no `train` or `eval` row that a later `rewind` to a smaller step made obsolete."""
    kept: list[Row] = []
    rewound_to: float = float("inf")
    for row in reversed(list(rows)):
        if row["kind"] == "rewind":
            rewound_to = min(rewound_to, row["step"])
        if row["kind"] not in ("train", "eval") or row["step"] <= rewound_to:
            kept.append(row)
    kept.reverse()
    return kept


def number(value: Any) -> float:
    """A value of a row as float: "nan", "inf", "-inf" as what they say; NaN for what is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def state_of(folder: Path, status: dict[str, Any] | None = None, *, clock_folder: Path | None = None) -> str:
    """The state of a run; `lost` for `created` or `running` whose owner is not alive; `damaged` without a status."""
    if status is None:
        status = read_or_empty(folder / "status.json")
    state = status.get("state")
    if state not in ("created", "running", None):
        return state
    index, segment = newest_segment(folder)
    if is_alive(folder, index, segment, clock_folder=clock_folder):
        return state or "running"
    return "lost" if index >= 0 else "damaged"


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return (folder / "metadata.json").is_file() and (folder / "provenance").is_dir()
