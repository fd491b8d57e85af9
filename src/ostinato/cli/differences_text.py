"""How differences between two runs are told: a block per kind, a line per difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostinato.cli.runs_text import value_text

BLOCKS = ("config", "code", "data", "tokenizer", "packages", "hardware", "threads", "command", "seed")
SHOWN = 20  # of one kind; --json has all


def differences_text(found: Mapping[str, Any]) -> str:
    """`runs diff`: what differs, then the first step that does."""
    lines = []
    for block in BLOCKS:
        told = [line for entry in found[block] for line in lines_of(block, entry)]
        more = [f"... and {len(told) - SHOWN} more (--json shows all)"] if len(told) > SHOWN else []
        lines += [f"{block if i == 0 else '':<10} {line}" for i, line in enumerate([*told[:SHOWN], *more])]
    if not lines:
        lines.append(f"nothing is recorded that differs between {found['a']} and {found['b']}")
    patches = [entry["patch"] for entry in found["code"] if entry["patch"]]
    return "\n".join([*lines, rows_text(found), *patches]).rstrip("\n")


def lines_of(block: str, entry: Mapping[str, Any]) -> list[str]:
    """One difference as lines of text."""
    if block == "code":
        if entry["problem"]:
            return [f"{entry['role']}: {entry['problem']}"]
        return [f"{entry['role']}: {file['path']} {file['change']}" for file in entry["files"]]
    sides = [side_text(entry, side) for side in ("a", "b")]
    return [("" if entry["name"] == block else f"{entry['name']}: ") + f"{sides[0]} -> {sides[1]}"]


def side_text(entry: Mapping[str, Any], side: str) -> str:
    """The value of one side, with where it comes from."""
    if side not in entry:
        return "none"
    value, origin = entry[side], entry.get(f"{side}_origin")
    words = " ".join(map(str, value)) if entry["name"] == "command" and isinstance(value, list) else exact(value)
    return f"{words} ({origin})" if origin else words


def exact(value: Any) -> str:
    """A value in full: two that differ in the last digit must look so."""
    return repr(value) if isinstance(value, float) else "null" if value is None else value_text(value)


def rows_text(found: Mapping[str, Any]) -> str:
    """Where the rows part."""
    first, steps = found["first_difference"], found["rows"]["steps"]
    if first is None:
        if not steps:
            return "rows       no step that both have"
        return f"rows       equal in the {steps} steps and {found['rows']['evaluations']} evaluations that both have"
    kind = "" if first["kind"] == "train" else f" ({first['kind']})"
    return f"rows       part at step {first['step']}{kind}: {first['field']} {exact(first['a'])} -> {exact(first['b'])}"
