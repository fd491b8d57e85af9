"""SLiC-HF (Zhao et al. 2023, arXiv:2305.10425): a margin instead of a likelihood."""

from typing import Literal

import torch
from torch import Tensor

from ostinato.core.registry import LOSSES
from ostinato.losses.pair_scores import PairScores


@LOSSES.register("hinge")
def hinge(
    pairs: PairScores,
    *,
    beta: float = 0.1,
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "reverse_kl",
    alpha: float = 0.5,
) -> Tensor:
    """max(0, 1 - h), h = beta (chosen gain - rejected gain); (P,). `divergence` replaces each gain (2309.16240)."""
    return torch.relu(1.0 - beta * pairs.gain_difference(divergence, alpha))
