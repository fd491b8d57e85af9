"""DPO (Rafailov et al. 2023, arXiv:2305.18290); with label smoothing conservative DPO (E. Mitchell, 2023)."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ostinato.core.registry import LOSSES
from ostinato.losses.pair_scores import PairScores


@LOSSES.register("sigmoid")
def sigmoid(
    pairs: PairScores,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "reverse_kl",
    alpha: float = 0.5,
) -> Tensor:
    """-(1-e) log sigmoid(h) - e log sigmoid(-h), h = beta (chosen gain - rejected gain), e = label_smoothing; (P,).

    Gains are sums over the response, not means. `divergence` replaces each gain (arXiv:2309.16240).
    """
    if not 0.0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}, not in [0, 0.5)")
    h = beta * pairs.gain_difference(divergence, alpha)
    return -(1.0 - label_smoothing) * F.logsigmoid(h) - label_smoothing * F.logsigmoid(-h)
