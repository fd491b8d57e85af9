"""What to do when a step goes wrong: a loss or gradient that is not finite, and a loss that jumps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from torch import nn

from ostinato.core.errors import OstinatoError
from ostinato.distributed.shards import whole

WINDOW = 128
SPIKE_DEVIATIONS = 6.0
MOST_SKIPPED_IN_A_ROW = 10
MOST_REWINDS = 3


Named = Iterable[tuple[str, nn.Parameter]]


class NotFinite(OstinatoError):
    """A loss or a gradient is NaN or infinite; the state of that step is never saved."""


class Rewind(Exception):
    """Go back to the last checkpoint and read on behind the offending step."""


class LossGuard:
    """Decides before the update whether a step may be applied; its window of losses is part of the checkpoint."""

    name = "guard"

    def __init__(self, on_nonfinite: str, on_spike: str, event: Callable[..., None]) -> None:
        self.on_nonfinite = on_nonfinite
        self.on_spike = on_spike
        self.event = event
        self.window: list[float] = []
        self.skipped_in_a_row = 0
        self.rewinds = 0

    def allows(self, step: int, loss: float, norm: float, losses: Sequence[float], named: Named) -> bool:
        """True: update. False: leave parameters and moments untouched. Raises NotFinite or Rewind."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._not_finite(step, loss, norm, losses, named)
            return False
        spike = self._is_spike(loss)
        if spike:
            self.event("spike", step, loss=loss, median=statistics.median(self.window), action=self.on_spike)
        if not spike or self.on_spike == "warn":
            self.window = [*self.window[1 - WINDOW :], loss]
            self.skipped_in_a_row = 0
            return True
        if self.on_spike == "rewind":
            if self.rewinds >= MOST_REWINDS:
                raise OstinatoError(f"step {step}: the loss jumped to {loss:.4g} again after {MOST_REWINDS} rewinds.")
            self.rewinds += 1
            raise Rewind
        self._skip(step, "spike")
        return False

    def _is_spike(self, loss: float) -> bool:
        if self.on_spike == "ignore" or len(self.window) < WINDOW:
            return False
        median = statistics.median(self.window)
        deviation = 1.4826 * statistics.median(abs(value - median) for value in self.window)
        return loss > median + SPIKE_DEVIATIONS * max(deviation, 1e-8)

    def _not_finite(self, step: int, loss: float, norm: float, losses: Sequence[float], named: Named) -> None:
        bad_batch = next((m for m, value in enumerate(losses) if not math.isfinite(value)), None)
        where = f"micro-batch {bad_batch}" if bad_batch is not None else "the gradients"
        parameter = next((n for n, p in named if p.grad is not None and not whole(p.grad).isfinite().all()), "none")
        text = (
            f"step {step}: loss {loss:.6g}, gradient norm {norm:.6g}: not finite in {where}; "
            f"first bad parameter: {parameter}."
        )
        if self.on_nonfinite == "stop":
            raise NotFinite(f"{text} Lower training.learning_rate, or set training.on_nonfinite: skip.")
        self._skip(step, text)

    def _skip(self, step: int, why: str) -> None:
        self.skipped_in_a_row += 1
        self.event("skipped_step", step, problem=why)
        if self.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
            raise NotFinite(f"step {step}: {MOST_SKIPPED_IN_A_ROW} steps in a row were skipped; the last: {why}")

    def state(self) -> dict[str, object]:
        return {"window": self.window, "skipped_in_a_row": self.skipped_in_a_row, "rewinds": self.rewinds}

    def load_state(self, state: dict[str, object]) -> None:
        self.window = [float(value) for value in state["window"]]  # type: ignore[union-attr, attr-defined]
        self.skipped_in_a_row = int(state["skipped_in_a_row"])  # type: ignore[call-overload]
        self.rewinds = max(self.rewinds, int(state["rewinds"]))  # type: ignore[call-overload]
