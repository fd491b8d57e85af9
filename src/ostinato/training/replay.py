"""The ledger: after a resume each replayed row is compared with the one that was written before the interruption.

It finds broken memory, and state that is missing from checkpoints, for free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ostinato.core.errors import OstinatoError

NOT_REPRODUCIBLE = frozenset({"time", "segment", "perf"})
FAST_FIELDS = ("learning_rate", "tokens", "data")


class ReplayMismatch(OstinatoError):
    """A replayed step gave another result than the first time."""


class Replay:
    """Knows the rows beyond the resumed step; `check(row)` compares and forgets.

    In the fast tier only learning rate, tokens and data must agree. `policy` stop raises ReplayMismatch, warn reports.
    """

    def __init__(
        self, old_rows: Iterable[Mapping[str, Any]], *, exact: bool, policy: str, report: Callable[[int, str], None]
    ) -> None:
        self.old = {(row["kind"], row["step"]): row for row in old_rows}
        self.exact, self.policy, self.report = exact, policy, report
        self.warned = False

    def check(self, row: Mapping[str, Any]) -> None:
        """Compare a new row with the old one of its kind and step, if there is one."""
        old = self.old.pop((row.get("kind", "train"), row["step"]), None)
        if old is None:
            return
        names = [n for n in (*old, *(n for n in row if n not in old)) if n not in NOT_REPRODUCIBLE]
        if not self.exact:
            names = [n for n in names if n in FAST_FIELDS]
        for name in names:
            if not same(old.get(name), row.get(name)):
                self._mismatch(row["step"], name, old.get(name), row.get(name))
                return

    def _mismatch(self, step: int, name: str, before: Any, now: Any) -> None:
        text = f"replayed step {step}: {name} was {before!r} before the interruption and is {now!r} now."
        if self.policy == "stop":
            raise ReplayMismatch(
                f"{text} State is missing from the checkpoint, the environment changed, or memory is broken. "
                "training.on_replay_mismatch: warn goes on."
            )
        if not self.warned:
            self.report(step, text)
        self.warned = True


def same(before: Any, now: Any) -> bool:
    """Equal as written: not-finite numbers stand in the file as text."""
    if isinstance(now, float) and not math.isfinite(now):
        return before == repr(now)
    return before == now
