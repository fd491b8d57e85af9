"""EXO on pairs (Ji et al. 2024, arXiv:2402.00856, equation 16): the reverse KL to the smoothed preference."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ostinato.core.registry import LOSSES
from ostinato.losses.pair_scores import PairScores


@LOSSES.register("exo_pair")
def exo_pair(
    pairs: PairScores,
    *,
    beta: float = 0.1,
    label_smoothing: float = 1e-3,
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "reverse_kl",
    alpha: float = 0.5,
) -> Tensor:
    """s(h) [log s(h) - log(1-e)] + s(-h) [log s(-h) - log e], s = sigmoid, h = beta (chosen - rejected gain); (P,).

    e = label_smoothing; at 0 the loss is infinite. `divergence` replaces each gain (arXiv:2309.16240).
    """
    if not 0.0 < label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}, not in (0, 0.5); at 0 the loss is infinite")
    h = beta * pairs.gain_difference(divergence, alpha)
    right = torch.sigmoid(h) * (F.logsigmoid(h) - math.log1p(-label_smoothing))
    return right + torch.sigmoid(-h) * (F.logsigmoid(-h) - math.log(label_smoothing))
