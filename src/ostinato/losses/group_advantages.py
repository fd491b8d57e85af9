"""How much better a response did than its siblings (GRPO, arXiv:2402.03300; leave one out, arXiv:2402.14740).

On the host, once a step, over the responses of all ranks. R responses.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

EPSILON = 1e-6


def group_advantages(
    scores: Sequence[float | None] | np.ndarray,
    groups: Sequence[int] | np.ndarray,
    *,
    baseline: Literal["group_mean", "leave_one_out", "none"] = "group_mean",
    scale: Literal["group_std", "batch_std", "none"] = "group_std",
) -> tuple[np.ndarray, np.ndarray]:
    """(s - baseline) / (std + 1e-6), std with N - 1, of the group or of all scores: (R,) float64; and (R,) bool, which
    responses are trained.

    scores (R,), None or nan: unscorable, outside every statistic and not trained. groups (R,): the same number for the
    responses of one prompt, adjacent or not. With a baseline a group needs two scores, else it is not trained. Scores
    that are all equal where they are compared give exactly 0; so do responses that are not trained. Sums are exact, so
    nothing depends on the order of the responses.
    """
    if baseline not in ("group_mean", "leave_one_out", "none") or scale not in ("group_std", "batch_std", "none"):
        raise ValueError(f"baseline {baseline!r} or scale {scale!r} is not known")
    s, members = np.asarray(scores, dtype=np.float64), np.asarray(groups)
    trained, advantages = ~np.isnan(s), np.zeros(len(s))
    batch_std = _std(s[trained])
    for group in np.unique(members):
        own = np.flatnonzero((members == group) & ~np.isnan(s))
        if len(own) < 2 and baseline != "none":
            trained[own] = False
            continue
        std = {"group_std": _std(s[own]), "batch_std": batch_std, "none": None}[scale]
        if std == 0.0 or (baseline != "none" and np.ptp(s[own]) == 0.0):
            continue
        middle = 0.0 if baseline == "none" else math.fsum(s[own]) / len(own)
        others = len(own) / (len(own) - 1) if baseline == "leave_one_out" else 1.0  # s - mean of others, by the mean
        advantages[own] = others * (s[own] - middle) / (1.0 if std is None else std + EPSILON)
    return advantages, trained


def _std(values: np.ndarray) -> float:
    """With N - 1, exactly 0 where all are equal or there are fewer than two."""
    if len(values) < 2 or np.ptp(values) == 0.0:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((values - mean) ** 2) / (len(values) - 1))
