"""Pre-training with generalised cross-entropy: tokens the model finds absurd count less (Zhang and Sabuncu 2018,
arXiv:1805.07836, equation 6)."""

from __future__ import annotations

import math

import torch
from ostinato.core.registry import ALGORITHMS
from ostinato.core.types import LossOutput, Mean
from ostinato.data.batches import TokenBatch
from ostinato.data.windows import Windows
from ostinato.training.trainer import BaseTrainer, Parts
from torch import Tensor


def generalised_cross_entropy(log_probs: Tensor, q: float) -> Tensor:
    """(1 - p^q) / q for each token, (N,): -log p in the limit q = 0, 1 - p at q = 1."""
    return -log_probs if q == 0 else -torch.expm1(q * log_probs) / q


@ALGORITHMS.register("robust_pretrain")
class RobustPretrain(BaseTrainer):
    """Next-token prediction with generalised cross-entropy: sum of (1 - p^q) / q / tokens of the whole step.

    `q` 0 is plain maximum likelihood. `nll` and `perplexity` are reported whatever it is, so that runs compare.
    """

    sample_format = Windows

    def __init__(self, parts: Parts, *, q: float = 0.1) -> None:
        super().__init__(parts)
        if not 0 <= q <= 1:
            raise ValueError(f"q: {q} is not between 0 and 1.")
        self.q = q

    def compute_loss(self, batch: TokenBatch) -> LossOutput:
        scores = self.model(batch.tokens, batch.positions, batch.documents, labels=batch.labels, trained=batch.trained)
        log_probs = scores.log_probs  # (N,), one per trained token
        nll = Mean(-log_probs.detach().sum(), log_probs.numel())
        loss = generalised_cross_entropy(log_probs, self.q).sum()
        return LossOutput(loss / batch.totals.tokens, {"nll": nll})

    def derive(self, metrics: dict[str, float]) -> dict[str, float]:
        return {**metrics, "perplexity": math.exp(min(metrics["nll"], 700.0))}
