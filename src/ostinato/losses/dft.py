"""Dynamic fine-tuning (Wu et al. 2025, arXiv:2508.05629): likely tokens weigh more, unlikely ones less."""

from torch import Tensor

from ostinato.core.registry import LOSSES


@LOSSES.register("dft")
def dft(log_probs: Tensor) -> Tensor:
    """-sg(p) log p of each trained token, sg without gradient. Shapes: (N,) -> (N,)."""
    return -log_probs.detach().exp() * log_probs
