"""Length-normalised DPO (Lambert et al. 2024, arXiv:2411.15124)."""

import torch.nn.functional as F
from torch import Tensor

from ostinato.core.registry import LOSSES
from ostinato.losses.pair_scores import PairScores


@LOSSES.register("sigmoid_norm")
def sigmoid_norm(pairs: PairScores, *, beta: float = 5.0) -> Tensor:
    """-log sigmoid(beta (chosen gain / its tokens - rejected gain / its tokens)); (P,)."""
    chosen, rejected = pairs.chosen_gain / pairs.chosen_tokens, pairs.rejected_gain / pairs.rejected_tokens
    return -F.logsigmoid(beta * (chosen - rejected))
