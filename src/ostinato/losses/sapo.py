"""SAPO (Gao et al. 2025, arXiv:2511.20347): a soft gate in place of the clip, steeper for negative advantages."""

import torch
from torch import Tensor

from ostinato.core.registry import LOSSES


@LOSSES.register("sapo")
def sapo(
    ratio: Tensor,
    advantages: Tensor,
    log_probs: Tensor,
    *,
    temperature_positive: float = 1.0,
    temperature_negative: float = 1.05,
) -> Tensor:
    """-A (4/t) sigmoid(t (r - 1)); (N,), (N,), (N,) -> (N,). log_probs are not read.

    t is temperature_positive where A > 0, else temperature_negative. At r = 1 the gradient is that of -A r.
    """
    if min(temperature_positive, temperature_negative) <= 0.0:
        raise ValueError(f"temperatures must be above 0, not {temperature_positive} and {temperature_negative}")
    t = torch.full_like(advantages, temperature_negative).masked_fill(advantages > 0, temperature_positive)
    return -advantages * (4.0 / t) * torch.sigmoid(t * (ratio - 1.0))
