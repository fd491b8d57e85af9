"""Self-play preference optimization with hard labels (Wu et al. 2024, arXiv:2405.00675)."""

from torch import Tensor

from ostinato.core.registry import LOSSES
from ostinato.losses.pair_scores import PairScores


@LOSSES.register("sppo_hard")
def sppo_hard(pairs: PairScores, *, beta: float = 1e-3) -> Tensor:
    """(chosen gain - 1/(2 beta))^2 + (rejected gain + 1/(2 beta))^2; (P,). `beta` is the paper's 1/eta."""
    target = 1.0 / (2.0 * beta)
    return (pairs.chosen_gain - target) ** 2 + (pairs.rejected_gain + target) ** 2
