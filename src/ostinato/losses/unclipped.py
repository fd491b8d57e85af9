"""The importance-weighted policy gradient as it stands; with a ratio of 1 it is REINFORCE (Williams 1992)."""

from torch import Tensor

from ostinato.core.registry import LOSSES


@LOSSES.register("unclipped")
def unclipped(ratio: Tensor, advantages: Tensor, log_probs: Tensor) -> Tensor:
    """-A r; (N,), (N,), (N,) -> (N,). log_probs are not read."""
    return -advantages * ratio
