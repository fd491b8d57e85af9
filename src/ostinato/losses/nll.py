"""Negative log-likelihood, the loss of maximum likelihood."""

from torch import Tensor

from ostinato.core.registry import LOSSES


@LOSSES.register("nll")
def nll(log_probs: Tensor) -> Tensor:
    """-log p of each trained token. Shapes: (N,) -> (N,)."""
    return -log_probs
