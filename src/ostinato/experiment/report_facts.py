"""The facts of runs side by side, as lines of text."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

Facts = dict[str, Any]


def fact_rows(runs: Sequence[Facts]) -> list[dict[str, Any]]:
    """{name, cells}: of each run the lines that say it. Facts that no run has are left out."""
    rows = [{"name": name, "cells": [_careful(lines, run) for run in runs]} for name, lines in LINES.items()]
    return [row for row in rows if any(row["cells"])]


def _careful(lines: Callable[[Facts], list[str]], run: Facts) -> list[str]:
    """A damaged record is no reason to have no report."""
    try:
        return [str(line) for line in lines(run) if line]
    except (KeyError, TypeError, AttributeError, ValueError):
        return ["recorded in a form that is not understood"]


def _what(run: Facts) -> list[str]:
    return [f"{run['algorithm']}, {run['model'] or 'a model from elsewhere'}", f"numerics {run['numerics']}"]


def _segments(run: Facts) -> list[str]:
    return [
        f"{one['segment']}: {one['started']} on {one['host']}"
        + ("" if one["resumed_from"] is None else f", after step {one['resumed_from']}")
        for one in run["segments"]
    ]


def _checkpoints(run: Facts) -> list[str]:
    return [
        f"step {one['step']}, {one['bytes'] / 1e6:.1f} MB"
        if one["problem"] is None
        else f"{one['name']}: {one['problem']}"
        for one in run["checkpoints"]
    ]


def _lineage(run: Facts) -> list[str]:
    lineage = run["lineage"] or {}
    parent = lineage.get("init_from")
    lines = []
    if isinstance(parent, dict):
        at = "" if parent.get("step") is None else f" at step {parent['step']}"
        lines.append((parent.get("run") or parent.get("hub") or parent["folder"]) + at)
    return lines + [f"{name} {lineage[name]}" for name in ("reproduces", "sweep") if lineage.get(name)]


def _data(run: Facts) -> list[str]:
    sources = (run["data"] or {}).get("sources", [])
    return [
        f"{one['name']}: {one.get('used', one.get('rows'))} of {one.get('rows')} rows, "
        f"fingerprint {str(one.get('fingerprint'))[:12]}"
        for one in sources
    ]


def _code(run: Facts) -> list[str]:
    return [
        f"{one.get('role')}: {one['problem']}"
        if "problem" in one
        else f"{one.get('role')}: commit {str(one.get('commit'))[:12]}{', changed since' if one.get('dirty') else ''}, "
        f"tree {str(one.get('tree'))[:12]}"
        for one in run["code"]
    ]


def _error(run: Facts) -> list[str]:
    error = run["status"].get("error")
    return [f"{error['type']}: {error['message']}", f"{error['file']}:{error['line']}"] if error else []


LINES: dict[str, Callable[[Facts], list[str]]] = {
    "what": _what,
    "created": lambda run: [run["created"]],
    "command": lambda run: [shlex.join(run["command"])],
    "folder": lambda run: [run["folder"]],
    "hardware": lambda run: [run["hardware"]],
    "segments": _segments,
    "began from": _lineage,
    "data": _data,
    "code": _code,
    "checkpoints": _checkpoints,
    "events": lambda run: [f"{count} × {name}" for name, count in run["events"].items()],
    "reason": lambda run: [run["reason"]],
    "error": _error,
    "science hash": lambda run: [str(run["hashes"].get("science", ""))[:12]],
    "ostinato": lambda run: [run["ostinato"]],
    "tags": lambda run: [", ".join(map(str, run["tags"]))],
    "notes": lambda run: [run["notes"]],
}
