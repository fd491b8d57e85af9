"""ORPO (Hong et al. 2024, arXiv:2403.07691, equations 6 and 7): likelihood and odds ratio, without a reference."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ostinato.core.registry import LOSSES
from ostinato.losses.pair_scores import PairScores, judges


@LOSSES.register("orpo")
@judges("mean_log_prob", scale="odds_weight")
def orpo(pairs: PairScores, *, odds_weight: float = 0.1) -> Tensor:
    """-c - odds_weight log sigmoid[(c - r) - (log(1 - e^c) - log(1 - e^r))]; (P,).

    c and r are mean log-probs per token of the response, so p = e^c is the paper's length-normalised likelihood.
    """
    chosen, rejected = pairs.chosen / pairs.chosen_tokens, pairs.rejected / pairs.rejected_tokens
    log_odds_ratio = (chosen - rejected) - (log1mexp(chosen) - log1mexp(rejected))
    return -chosen - odds_weight * F.logsigmoid(log_odds_ratio)


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - e^x) of x < 0, exact at both ends: near 0 by expm1, far from it by log1p (Maechler 2012)."""
    x = x.clamp(max=-1e-6)
    return torch.where(x > -math.log(2), torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))
