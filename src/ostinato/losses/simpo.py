"""SimPO (Meng et al. 2024, arXiv:2405.14734): the mean log-prob as reward, without a reference."""

import torch.nn.functional as F
from torch import Tensor

from ostinato.core.registry import LOSSES
from ostinato.losses.pair_scores import PairScores, judges


@LOSSES.register("simpo")
@judges("mean_log_prob")
def simpo(pairs: PairScores, *, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    """-log sigmoid(beta (c - r) - gamma), c and r the mean log-probs per token; (P,).

    `gamma`, the wanted margin, is the paper's: it is not multiplied by beta.
    """
    chosen, rejected = pairs.chosen / pairs.chosen_tokens, pairs.rejected / pairs.rejected_tokens
    return -F.logsigmoid(beta * (chosen - rejected) - gamma)
