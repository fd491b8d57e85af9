"""Identity preference optimization (Azar et al. 2023, arXiv:2310.12036, equation 17)."""

from torch import Tensor

from ostinato.core.registry import LOSSES
from ostinato.losses.pair_scores import PairScores


@LOSSES.register("ipo")
def ipo(pairs: PairScores, *, beta: float = 0.1) -> Tensor:
    """(chosen gain / its tokens - rejected gain / its tokens - 1/(2 beta))^2; (P,).

    Means per token are, by its authors' word, the form of their results; with sums the loss is orders of magnitude off.
    """
    chosen, rejected = pairs.chosen_gain / pairs.chosen_tokens, pairs.rejected_gain / pairs.rejected_tokens
    return (chosen - rejected - 1.0 / (2.0 * beta)) ** 2
