"""Anchored preference optimization, zero (D'Oosterlinck et al. 2024, arXiv:2408.06266, equation 7)."""

import torch
from torch import Tensor

from ostinato.core.registry import LOSSES
from ostinato.losses.pair_scores import PairScores


@LOSSES.register("apo_zero")
def apo_zero(pairs: PairScores, *, beta: float = 0.1) -> Tensor:
    """1 - sigmoid(beta chosen gain) + sigmoid(beta rejected gain); (P,). The paper's plus 1.

    For chosen responses that are better than the model: raises theirs and lowers the others' likelihood.
    """
    return torch.sigmoid(-beta * pairs.chosen_gain) + torch.sigmoid(beta * pairs.rejected_gain)
