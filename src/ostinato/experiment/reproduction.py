"""The verdict on a rerun: rows and tensors of two runs, and the likely causes of what differs, the likeliest first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ostinato.core.manifest import Damaged, NewerFormat, read_checkpoint
from ostinato.experiment.row_differences import RowDifference, RowsCompared

BITWISE, WITHIN_TOLERANCE, STATISTICAL, DIVERGED = "BITWISE", "WITHIN TOLERANCE", "STATISTICAL", "DIVERGED"
LEVELS = {DIVERGED: 0, STATISTICAL: 1, WITHIN_TOLERANCE: 2, BITWISE: 3}
REQUIREMENTS = {"statistical": 1, "tolerance": 2, "bitwise": 3}
FOUND_NOTHING = "no difference found: nondeterminism or hardware"
STEP = re.compile(r"step_(\d{8})")


@dataclass(frozen=True)
class Tensors:
    """The last checkpoint that both runs have: how many tensors, and the names of those whose hashes differ."""

    step: int
    count: int
    differing: list[str] = field(default_factory=list)


def compare_tensors(a: Path, b: Path, after: int = 0, until: int | None = None) -> Tensors | None:
    """The tensors' hashes of the last common checkpoint, later than step `after`, not later than `until`."""
    steps = [_good_steps(run / "checkpoints") for run in (a, b)]
    common = [step for step in steps[0].keys() & steps[1].keys() if step > after and (until is None or step <= until)]
    if not common:
        return None
    left, right = (found[max(common)]["tensors"] for found in steps)
    names = [*left, *(name for name in right if name not in left)]
    differing = [n for n in names if left.get(n, {}).get("xxh3") != right.get(n, {}).get("xxh3")]
    return Tensors(max(common), len(names), differing)


def _good_steps(folder: Path) -> dict[int, dict[str, Any]]:
    found = {}
    for path in folder.glob("step_*"):
        if match := STEP.fullmatch(path.name):
            try:
                found[int(match[1])] = read_checkpoint(path)
            except (Damaged, NewerFormat, OSError):
                continue
    return found


def verdict(rows: RowsCompared, tensors: Tensors | None, is_statistical: bool) -> str:
    """The best of the four that the comparison allows."""
    if rows.first is None and not (tensors and tensors.differing):
        return BITWISE
    if rows.first_beyond is None:
        return WITHIN_TOLERANCE
    return STATISTICAL if is_statistical else DIVERGED


def required_level(asked: str | None, numerics: str | None, has_drift: bool) -> str:
    """What the rerun must reach: as asked, else bitwise where numerics promise it and the environment is the same."""
    return asked or ("bitwise" if numerics in ("deterministic", "elastic") and not has_drift else "tolerance")


def is_met(reached: str, required: str) -> bool:
    """Whether a verdict is at least what is required."""
    return LEVELS[reached] >= REQUIREMENTS[required]


def likely_causes(
    overrides: Sequence[str],
    differences: Mapping[str, Sequence[Mapping[str, Any]]],
    notes: Sequence[str],
    first: RowDifference | None,
) -> list[dict[str, str]]:
    """[{kind, cause}], likeliest first: what was asked for, then config, code, data, tokenizer, environment, then
    `notes` on the record. Where the rows part in the data they read, data comes before config and code."""
    order = ["config", "code", "data", "tokenizer", "packages", "hardware", "threads"]
    if first is not None and first.field == "data":
        order = ["data", "tokenizer", *(kind for kind in order if kind not in ("data", "tokenizer"))]
    causes = [{"kind": "override", "cause": f"-o {override}"} for override in overrides]
    named = {override.partition("=")[0].strip().rstrip("!+~") for override in overrides}
    for kind in order:
        for entry in differences.get(kind, ()):
            if kind == "config" and _is_named(entry["name"], named):
                continue
            causes += [{"kind": kind, "cause": text} for text in _texts(kind, entry)]
    causes += [{"kind": "record", "cause": note} for note in notes]
    return causes or [{"kind": "none", "cause": FOUND_NOTHING}]


def _is_named(key: str, named: set[str]) -> bool:
    return any(key == name or key.startswith((f"{name}.", f"{name}[")) for name in named)


def _texts(kind: str, entry: Mapping[str, Any]) -> list[str]:
    if kind == "code":
        files = [f"code of {entry['role']}: {file['path']} {file['change']}" for file in entry["files"]]
        return [f"code of {entry['role']}: {entry['problem']}"] if entry["problem"] else files
    values = " -> ".join(str(entry[side]) if side in entry else "none" for side in ("a", "b"))
    return [f"{kind}: {entry['name']}: {values}"]
