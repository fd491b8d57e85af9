"""What a tracker is (those of ostinato: `trackers/`), and the numbers of a row as trackers name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Tracker(Protocol):
    """Built as `Tracker(folder, run, **options)` on its own thread; may raise or hang without harm to the run.

    `run` says `name`, `id`, `segment`, `config` (leaf -> value) and, after a resume, `resumed_from`, the step after
    which rows are new. A tracker that writes into a run elsewhere has an attribute `remote`, a mapping that names it;
    it is kept in the segment, and a resume finds it in `run["remote"]`.

    Example:
        @TRACKERS.register("lines")
        class Lines:
            def __init__(self, folder, run): self.file = (folder / "logs" / "lines.txt").open("a")
            def log(self, row): print(row["step"], row.get("loss"), file=self.file)
            def close(self): self.file.close()
    """

    def log(self, row: dict[str, Any]) -> None:
        """Take one row of `metrics.jsonl`."""

    def close(self) -> None:
        """Send what is left."""


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row as `train/loss`, `perf/seconds`, `validation/loss`, `system/memory_gib`."""
    kind = row.get("kind", "train")
    found: dict[str, float] = {}
    for name, value in row.items():
        if name in ("kind", "step", "segment", "time", "data"):
            continue
        if isinstance(value, Mapping):
            found |= {f"{name}/{inner}": float(v) for inner, v in value.items() if _is_number(v)}
        elif _is_number(value):
            found[name if kind == "eval" or "/" in name else f"{kind}/{name}"] = float(value)
    return found


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("nan", "inf", "-inf")
    return isinstance(value, (int, float)) and not isinstance(value, bool)
