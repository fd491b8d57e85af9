"""Anchored preference optimization, down (D'Oosterlinck et al. 2024, arXiv:2408.06266, equation 8)."""

import torch
from torch import Tensor

from ostinato.core.registry import LOSSES
from ostinato.losses.pair_scores import PairScores


@LOSSES.register("apo_down")
def apo_down(pairs: PairScores, *, beta: float = 0.1) -> Tensor:
    """sigmoid(beta chosen gain) + 1 - sigmoid(beta (chosen gain - rejected gain)); (P,). The paper's plus 1.

    For chosen responses that are worse than the model: lowers the likelihood of both, of the rejected more.
    """
    difference = pairs.chosen_gain - pairs.rejected_gain
    return torch.sigmoid(beta * pairs.chosen_gain) + torch.sigmoid(-beta * difference)
