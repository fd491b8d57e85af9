"""Learning-rate schedules: pure functions of the step that return the factor of the peak `training.learning_rate`.

Steps count from 1. All share the warm-up: step n <= warmup_steps gives n / warmup_steps, so the first step gives
1 / warmup_steps (never 0) and the factor is exactly 1 at step `top` = max(warmup_steps, 1). From there each has its
own way down, at step `total_steps` the decaying ones give exactly `min_ratio`, and so does every step beyond it.
"""

from __future__ import annotations

import math
from typing import Literal

from ostinato.core.registry import SCHEDULERS


@SCHEDULERS.register("constant")
def constant(step: int, total_steps: int, warmup_steps: int) -> float:
    """1 after the warm-up."""
    return _warmup(step, warmup_steps)


@SCHEDULERS.register("linear")
def linear(step: int, total_steps: int, warmup_steps: int, *, min_ratio: float = 0.0) -> float:
    """A straight line from 1 to `min_ratio`. With 0, the last step moves nothing."""
    if step < _top(warmup_steps):
        return _warmup(step, warmup_steps)
    return _mix(1.0 - _progress(step, _top(warmup_steps), total_steps), min_ratio)


@SCHEDULERS.register("cosine")
def cosine(step: int, total_steps: int, warmup_steps: int, *, min_ratio: float = 0.1) -> float:
    """Half a cosine from 1 to `min_ratio` (Loshchilov & Hutter 2017, arXiv:1608.03983), a tenth as in GPT-3."""
    if step < _top(warmup_steps):
        return _warmup(step, warmup_steps)
    return _mix(0.5 * (1.0 + math.cos(math.pi * _progress(step, _top(warmup_steps), total_steps))), min_ratio)


@SCHEDULERS.register("wsd")
def wsd(
    step: int,
    total_steps: int,
    warmup_steps: int,
    *,
    decay_fraction: float = 0.1,
    shape: Literal["linear", "sqrt"] = "sqrt",
    min_ratio: float = 0.0,
) -> float:
    """Warm-up, stable at 1, decay to `min_ratio` over the last `decay_fraction` of the steps (arXiv:2404.06395).

    `linear` falls in a straight line, `sqrt` as 1 - sqrt(progress) (Hägele et al. 2024, arXiv:2405.18392).
    """
    if not 0.0 < decay_fraction <= 1.0:
        raise ValueError(f"decay_fraction: {decay_fraction} is not above 0 and at most 1")
    if step < _top(warmup_steps):
        return _warmup(step, warmup_steps)
    start = max(_top(warmup_steps), total_steps - max(1, round(decay_fraction * total_steps)))
    progress = _progress(step, start, total_steps)
    return _mix(1.0 - (math.sqrt(progress) if shape == "sqrt" else progress), min_ratio)


@SCHEDULERS.register("inverse_square_root")
def inverse_square_root(step: int, total_steps: int, warmup_steps: int, *, min_ratio: float = 0.0) -> float:
    """sqrt(top / step), never below `min_ratio` (Vaswani et al. 2017, arXiv:1706.03762); knows no last step."""
    if step < _top(warmup_steps):
        return _warmup(step, warmup_steps)
    return max(min_ratio, math.sqrt(_top(warmup_steps) / step))


def _top(warmup_steps: int) -> int:
    """The first step whose factor is 1."""
    return max(warmup_steps, 1)


def _warmup(step: int, warmup_steps: int) -> float:
    return min(1.0, step / _top(warmup_steps))


def _progress(step: int, start: int, total_steps: int) -> float:
    """0 up to step `start`, 1 at step `total_steps`, linear between. A schedule without room to fall stays at 0."""
    if total_steps <= start:
        return 0.0 if step <= start else 1.0
    return min(1.0, max(0.0, (step - start) / (total_steps - start)))


def _mix(share_of_peak: float, min_ratio: float) -> float:
    return min_ratio + (1.0 - min_ratio) * share_of_peak
