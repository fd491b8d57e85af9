"""Robust DPO (Chowdhury et al. 2024, arXiv:2403.00409): unbiased where some preferences are flipped."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ostinato.core.registry import LOSSES
from ostinato.losses.pair_scores import PairScores


@LOSSES.register("robust")
def robust(
    pairs: PairScores,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.1,
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "reverse_kl",
    alpha: float = 0.5,
) -> Tensor:
    """[-(1-e) log sigmoid(h) + e log sigmoid(-h)] / (1-2e), h = beta (chosen gain - rejected gain); (P,).

    e = label_smoothing is the share of flipped preferences. `divergence` replaces each gain (arXiv:2309.16240).
    """
    if not 0.0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}, not in [0, 0.5)")
    h = beta * pairs.gain_difference(divergence, alpha)
    flipped = label_smoothing * F.logsigmoid(-h)
    return (flipped - (1.0 - label_smoothing) * F.logsigmoid(h)) / (1.0 - 2.0 * label_smoothing)
