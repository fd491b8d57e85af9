"""Pre-training: predict the next token of running text."""

from __future__ import annotations

import math

import torch

from ostinato.core.registry import ALGORITHMS
from ostinato.core.types import LossOutput, Mean
from ostinato.data.batches import TokenBatch
from ostinato.data.windows import Windows
from ostinato.training.trainer import BaseTrainer, Parts


@ALGORITHMS.register("pretrain")
class Pretrain(BaseTrainer):
    """Next-token prediction on windows of text: sum of -log p(token) / tokens of the whole step.

    Reports perplexity, exp(loss), and bits per byte of text, which can be compared between tokenizers.
    """

    sample_format = Windows

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        bytes_of = torch.as_tensor(self.tokenizer.token_bytes(), dtype=torch.float32)
        self.token_bytes = bytes_of.to(self.strategy.device)  # (V,) bytes of text each token stands for

    def compute_loss(self, batch: TokenBatch) -> LossOutput:
        scores = self.model(batch.tokens, batch.positions, batch.documents, labels=batch.labels, trained=batch.trained)
        nll = -scores.log_probs.sum()
        size = self.token_bytes[batch.labels.view(-1)[batch.trained]].sum()
        bits_per_byte = Mean(nll.detach() / math.log(2), size)
        return LossOutput(nll / batch.totals.tokens, {"bits_per_byte": bits_per_byte})

    def derive(self, metrics: dict[str, float]) -> dict[str, float]:
        return {**metrics, "perplexity": math.exp(min(metrics["loss"], 700.0))}
