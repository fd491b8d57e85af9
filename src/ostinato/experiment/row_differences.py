"""Rows of two runs side by side: which fields are reproducible, where two runs part, and how far apart they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ostinato.experiment.reading import counting, number, read_rows

NOT_REPRODUCIBLE = frozenset({"kind", "step", "time", "segment", "perf"})
Rows = dict[tuple[int, str], dict[str, Any]]
"""(step, kind) -> the row that counts, in the order of writing."""


@dataclass(frozen=True)
class Tolerance:
    """Floats are near if |a - b| <= absolute + relative * |b|; all else must be equal."""

    relative: float = 1e-3
    absolute: float = 1e-5

    def near(self, a: Any, b: Any) -> bool:
        """Whether two values of a field are equal, or floats (one of them at least) that are near."""
        if a == b:
            return True
        if not any(isinstance(value, float) for value in (a, b)) or isinstance(a, bool) or isinstance(b, bool):
            return False
        left, right = number(a), number(b)  # not-finite numbers stand as text: near to nothing but themselves
        if not (math.isfinite(left) and math.isfinite(right)):
            return False
        return abs(left - right) <= self.absolute + self.relative * abs(right)


DEFAULT = Tolerance()


@dataclass(frozen=True)
class RowDifference:
    """One field of one step that two runs do not share; a value is None where a run has no such field."""

    step: int
    kind: str
    field: str
    a: Any
    b: Any

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def rows_of(folder: Path) -> Rows:
    """The `train` and `eval` rows of a run that count."""
    return keyed(counting(read_rows(folder)))


def keyed(rows: Iterable[Mapping[str, Any]]) -> Rows:
    """Rows by step and kind; other kinds than `train` and `eval` are left out."""
    return {(row["step"], row["kind"]): dict(row) for row in rows if row["kind"] in ("train", "eval")}


def row_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[RowDifference]:
    """Every reproducible field in which two rows of one step differ, in the order of the row."""
    names = [name for name in (*a, *(n for n in b if n not in a)) if name not in NOT_REPRODUCIBLE]
    return [
        RowDifference(a["step"], a["kind"], name, a.get(name), b.get(name))
        for name in names
        if (name in a) != (name in b) or a[name] != b[name]
    ]


@dataclass(frozen=True)
class RowsCompared:
    """Train rows and evaluations that both have; the first field that differs, and the first that is not near."""

    steps: int
    evaluations: int
    first: RowDifference | None
    first_beyond: RowDifference | None


def compare_rows(a: Rows, b: Rows, tolerance: Tolerance = DEFAULT, until: int | None = None) -> RowsCompared:
    """Compare the rows that both runs have, up to step `until`. Evaluations that only one has are no difference."""
    common = [key for key in a if key in b and (until is None or key[0] <= until)]
    first = first_beyond = None
    for key in common:
        found = row_differences(a[key], b[key])
        first = first or next(iter(found), None)
        first_beyond = next((one for one in found if not tolerance.near(one.a, one.b)), None)
        if first_beyond is not None:
            break
    kinds = [kind for _, kind in common]
    return RowsCompared(kinds.count("train"), kinds.count("eval"), first, first_beyond)
