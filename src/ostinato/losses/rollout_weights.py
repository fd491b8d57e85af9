"""Weights for a sampler whose log-probs are not quite the policy's (truncated importance sampling, F. Yao et al. 2025).

token_mask: IcePop (Ling team 2025). N trained tokens, S sequences.
"""

from typing import Literal

import torch
from torch import Tensor

from ostinato.losses.aggregate import sum_by_sequence

BOUNDS = {
    "token_truncate": (0.0, 2.0),
    "token_mask": (0.5, 5.0),
    "sequence_mask": (0.0, 3.0),
    "geometric_mask": (0.999, 1.002),
}


@torch.no_grad()
def rollout_weights(
    old: Tensor,
    behaviour: Tensor,
    sequence: Tensor,
    sequences: int,
    *,
    correction: Literal["none", "token_truncate", "token_mask", "sequence_mask", "geometric_mask"],
    minimum: float | None = None,
    maximum: float | None = None,
) -> Tensor:
    """(N,) without gradient, of w = exp(old - behaviour); a behaviour of nan, not known, counts as w = 1.

    old, behaviour (N,) log-probs, sequence (N,) int64 in [0, S). token_truncate: w cut to the bounds; token_mask: w
    within them, else 0; sequence_mask: the product of w over the sequence within them, else 0; geometric_mask: 1 where
    its geometric mean lies within them, else 0. Bounds that are None are those of BOUNDS.
    """
    if correction == "none":
        return torch.ones_like(old)
    if correction not in BOUNDS:
        raise ValueError(f"correction: {correction!r} is none of none, {', '.join(BOUNDS)}")
    usual = BOUNDS[correction]
    low, high = usual[0] if minimum is None else minimum, usual[1] if maximum is None else maximum
    if low > high:
        raise ValueError(f"minimum {low} is above maximum {high}")
    log_w = torch.where(behaviour.isnan(), 0.0, old - behaviour)
    if correction in ("sequence_mask", "geometric_mask"):
        total = sum_by_sequence(log_w, sequence, sequences)
        if correction == "geometric_mask":
            total = total / sum_by_sequence(torch.ones_like(log_w), sequence, sequences)
        log_w = total[sequence]
    w = log_w.exp()
    if correction == "token_truncate":
        return w.clamp(low, high)
    inside = (w >= low) & (w <= high)
    return inside.to(w.dtype) if correction == "geometric_mask" else torch.where(inside, w, 0.0)
