"""Kahneman-Tversky optimization (Ethayarajh et al. 2024, arXiv:2402.01306, equations 7 and 8)."""

import torch
from torch import Tensor

from ostinato.core.registry import LOSSES


@LOSSES.register("kto")
def kto(
    gains: Tensor,
    desirable: Tensor,
    baseline: Tensor,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """desirable_weight (1 - sigmoid(beta (g - z))) or undesirable_weight (1 - sigmoid(beta (z - g))); (S,).

    gains g (S,): sums over the response of policy minus reference log-probs; desirable (S,) bool; baseline z: one
    number, without gradient.
    """
    sign = torch.where(desirable, 1.0, -1.0)
    weight = torch.where(desirable, desirable_weight, undesirable_weight)
    return weight * torch.sigmoid(-beta * sign * (gains - baseline))
