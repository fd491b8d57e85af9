"""Supervised fine-tuning: predict the answers of conversations, given what comes before them."""

from __future__ import annotations

import math
from typing import Literal

from ostinato.algorithms.scoring import scored
from ostinato.core.registry import ALGORITHMS, LOSSES
from ostinato.core.types import LossOutput, Mean
from ostinato.data.batches import TokenBatch
from ostinato.data.conversations import Conversations
from ostinato.training.trainer import BaseTrainer, Parts


@ALGORITHMS.register("sft")
class SFT(BaseTrainer):
    """Supervised fine-tuning: sum of the loss over trained tokens / trained tokens of the whole step.

    `loss` names the per-token loss: nll (maximum likelihood) or dft (arXiv:2508.05629). What is trained on is decided
    by `data.train_on`.
    """

    sample_format = Conversations

    def __init__(self, parts: Parts, *, loss: Literal["nll", "dft"] = "nll") -> None:
        super().__init__(parts)
        self.token_loss = LOSSES.get(loss)

    def compute_loss(self, batch: TokenBatch) -> LossOutput:
        scores = scored(self.model, batch, {"entropy", "top1"})
        trained = scores.log_probs.numel()
        cells = batch.tokens.numel() if batch.sequences else 0  # an empty batch, where ranks ran short
        held = cells if batch.documents is None else (batch.documents >= 0).sum()
        metrics = {
            "nll": Mean(-scores.log_probs.detach().sum(), trained),
            "entropy": Mean(scores.entropy.detach().sum(), trained),
            "token_accuracy": Mean(scores.top1.sum(), trained),
            "trained_fraction": Mean(trained, held),
            "packing_efficiency": Mean(held, cells),
        }
        return LossOutput(self.token_loss(scores.log_probs).sum() / batch.totals.tokens, metrics)

    def derive(self, metrics: dict[str, float]) -> dict[str, float]:
        return {**metrics, "perplexity": math.exp(min(metrics["nll"], 700.0))}
