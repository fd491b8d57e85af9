"""DiscoPOP (Lu et al. 2024, arXiv:2406.08414, equation 5): logistic and exponential loss, blended."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ostinato.core.registry import LOSSES
from ostinato.losses.pair_scores import PairScores


@LOSSES.register("discopop")
def discopop(
    pairs: PairScores,
    *,
    beta: float = 0.1,
    tau: float = 0.05,
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "reverse_kl",
    alpha: float = 0.5,
) -> Tensor:
    """(1-q) (-log sigmoid(h)) + q e^-h, q = sigmoid(h/tau), h = beta (chosen gain - rejected gain); (P,).

    q e^-h is formed as one exponential, which no h overflows. `divergence` replaces each gain (arXiv:2309.16240).
    """
    if not 0.0 < tau <= 1.0:
        raise ValueError(f"tau is {tau}, not in (0, 1]; above 1 the loss has no bound on e^-h")
    h = beta * pairs.gain_difference(divergence, alpha)
    return torch.sigmoid(-h / tau) * -F.logsigmoid(h) + torch.exp(F.logsigmoid(h / tau) - h)
