"""Contrastive preference optimization (Xu et al. 2024, arXiv:2401.08417)."""

import torch.nn.functional as F
from torch import Tensor

from ostinato.core.registry import LOSSES
from ostinato.losses.pair_scores import PairScores, judges


@LOSSES.register("cpo")
@judges("log_prob", nll_weight=1.0)
def cpo(pairs: PairScores, *, beta: float = 0.1) -> Tensor:
    """-log sigmoid(beta (log p(chosen) - log p(rejected))); (P,). Its other term is `dpo.nll_weight`, here 1.0."""
    return -F.logsigmoid(beta * (pairs.chosen - pairs.rejected))
