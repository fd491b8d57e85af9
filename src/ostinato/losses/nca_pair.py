"""Noise contrastive alignment on pairs (Chen et al. 2024, arXiv:2402.05369)."""

import torch.nn.functional as F
from torch import Tensor

from ostinato.core.registry import LOSSES
from ostinato.losses.pair_scores import PairScores


@LOSSES.register("nca_pair")
def nca_pair(pairs: PairScores, *, beta: float = 0.1) -> Tensor:
    """-log s(b c) - 1/2 log s(-b c) - 1/2 log s(-b r), s = sigmoid, b = beta, c and r the gains; (P,)."""
    chosen, rejected = beta * pairs.chosen_gain, beta * pairs.rejected_gain
    return -F.logsigmoid(chosen) - 0.5 * F.logsigmoid(-chosen) - 0.5 * F.logsigmoid(-rejected)
