"""CISPO (MiniMax 2025, arXiv:2506.13585): clipped weights on REINFORCE, so that no token is left out."""

from torch import Tensor

from ostinato.core.registry import LOSSES


@LOSSES.register("cispo")
def cispo(
    ratio: Tensor, advantages: Tensor, log_probs: Tensor, *, ratio_min: float = 0.0, ratio_max: float = 5.0
) -> Tensor:
    """-sg(clamp(r, ratio_min, ratio_max)) A log p, sg without gradient; (N,), (N,), (N,) -> (N,).

    The bounds are ratios themselves: a paper's 1 + e is written out, 5.0 means five, ratio_min 0.0 is no lower bound.
    """
    if ratio_max <= 1.0:
        raise ValueError(
            f"ratio_max is a ratio itself and must be above 1, not {ratio_max}: a paper's 1 + e, written out"
        )
    if not 0.0 <= ratio_min <= 1.0:
        raise ValueError(f"ratio_min is a ratio itself and must lie in [0, 1], not {ratio_min}")
    return -ratio.detach().clamp(ratio_min, ratio_max) * advantages * log_probs
