"""Everything about one run that fits on a screen, and what would stop a reproduction of it."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from ostinato.core.manifest import Damaged, NewerFormat, read_checkpoint
from ostinato.experiment.claims import newest_segment, segment_path
from ostinato.experiment.listing import summary
from ostinato.experiment.reading import Row, counting, number, read_or_empty, read_rows

SEGMENT_FIELDS = ("segment", "started", "host", "pid", "resumed_from")
NOT_METRICS = ("kind", "step", "segment", "time", "data", "perf")


def run_facts(folder: Path, rows: list[Row] | None = None) -> dict[str, Any]:
    """What `runs show` shows, with stable keys; `rows`: those of its metrics.jsonl if they were read already."""
    metadata, status = read_or_empty(folder / "metadata.json"), read_or_empty(folder / "status.json")
    rows = read_rows(folder) if rows is None else rows
    kept = [row for row in counting(rows) if row["kind"] in ("train", "eval")]
    segments = [read_or_empty(segment_path(folder, number)) for number in range(newest_segment(folder)[0] + 1)]
    facts = summary(folder) | {
        "command": metadata.get("command", []),
        "cwd": metadata.get("cwd"),
        "numerics": metadata.get("numerics"),
        "hardware": metadata.get("hardware"),
        "ostinato": metadata.get("ostinato"),
        "notes": metadata.get("notes", ""),
        "segments": [{name: segment.get(name) for name in SEGMENT_FIELDS} for segment in segments],
        "status": status,
        "best": best_values(kept),
        "checkpoints": checkpoints(folder),
        "lineage": metadata.get("lineage"),
        "imported": metadata.get("imported"),
        "data": metadata.get("data"),
        "code": metadata.get("code") or [],
        "events": dict(Counter(row.get("event") for row in rows if row["kind"] == "event")),
    }
    return facts | {"would_stop_a_reproduction": obstacles(folder, metadata, segments)}


def best_values(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The smallest value of every loss and perplexity, the largest of every accuracy and reward, and where."""
    best: dict[str, dict[str, float]] = {}
    for row in rows:
        for name, value in row.items():
            better = 0 if name in NOT_METRICS else direction(name)
            if better == 0 or math.isnan(amount := number(value)):
                continue
            if name not in best or better * (amount - best[name]["value"]) > 0:
                best[name] = {"value": amount, "step": row["step"]}
    return best


@cache
def direction(name: str) -> int:
    """1: more is better, -1: less is, 0: neither is known."""
    last = name.removesuffix("/mean").rpartition("/")[2]
    if any(word in last for word in ("loss", "perplexity", "bits_per_byte")):
        return -1
    return 1 if any(word in last for word in ("accuracy", "reward", "score", "win_rate")) else 0


def checkpoints(folder: Path) -> list[dict[str, Any]]:
    """Step, size and first sign of damage of each checkpoint (the hashes are `runs verify`'s)."""
    found = []
    for path in sorted((folder / "checkpoints").glob("step_*")):
        entry: dict[str, Any] = {"name": path.name, "step": None, "bytes": None, "problem": None}
        try:
            manifest = read_checkpoint(path)
            entry |= {"step": manifest["step"], "bytes": sum(f["bytes"] for f in manifest["files"].values())}
        except (Damaged, NewerFormat, OSError, KeyError, TypeError) as error:
            entry["problem"] = "put aside" if "." in path.name else str(error)
        found.append(entry)
    return found


def obstacles(folder: Path, metadata: dict[str, Any], segments: list[dict[str, Any]]) -> list[str]:
    """What would stop `reproduce`, or take from its verdict."""
    if metadata.get("imported"):
        return ["it was imported, not trained here"]
    found: list[str] = []
    code = metadata.get("code") or []
    if not code:
        found.append("not captured: the code")
    for entry in code:
        if "problem" in entry:
            found.append(f"not captured: the code of {entry.get('role')} ({entry.get('problem')})")
        elif "tree" in entry and not entry.get("proved"):
            found.append(f"code of {entry.get('role')} is not proved to restore")
        found += [f"not captured: {skipped['path']} ({skipped['reason']})" for skipped in entry.get("skipped", [])]
    for source in (metadata.get("data") or {}).get("sources", []):
        if source.get("kind") == "sampled":
            found.append(f"data fingerprint of {source.get('name')} is sampled")
    if metadata.get("data") is None:
        found.append("no data fingerprints")
    if metadata.get("numerics") == "fast":
        found.append("fast numerics")
    if metadata.get("environment") is None:
        found.append("environment not recorded")
    trees = {segment.get("code") for segment in segments if segment.get("code")}
    if len(trees) > 1:
        found.append(f"{len(trees)} different codes, one after the other")
    if len({segment.get("environment") for segment in segments if segment.get("environment")}) > 1:
        found.append("the environment changed at a resume")
    return found
