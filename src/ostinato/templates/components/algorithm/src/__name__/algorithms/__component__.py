"""{{class}}: say here what it is and where it comes from (paper, equation)."""

from __future__ import annotations

from ostinato.core.registry import ALGORITHMS
from ostinato.core.types import LossOutput, Mean
from ostinato.data.batches import TokenBatch
from ostinato.data.conversations import Conversations
from ostinato.training.trainer import BaseTrainer, Parts
from torch import Tensor


def {{component}}_loss(log_probs: Tensor, gamma: float) -> Tensor:
    """-(1 - p)^gamma log p for each token, (N,): what is predicted well counts less. Put your formula here."""
    return -((1 - log_probs.exp()) ** gamma) * log_probs


@ALGORITHMS.register("{{component}}")
class {{class}}(BaseTrainer):
    """Sum of -(1 - p)^gamma log p over trained tokens / trained tokens of the whole step.

    `gamma` 0 is maximum likelihood.
    """

    sample_format = Conversations  # rows of prompt and response; Windows (ostinato.data.windows) for running text

    def __init__(self, parts: Parts, *, gamma: float = 1.0) -> None:
        super().__init__(parts)
        self.gamma = gamma

    def compute_loss(self, batch: TokenBatch) -> LossOutput:
        scores = self.model(batch.tokens, batch.positions, batch.documents, labels=batch.labels, trained=batch.trained)
        log_probs = scores.log_probs  # (N,), one per trained token
        nll = Mean(-log_probs.detach().sum(), log_probs.numel())
        return LossOutput({{component}}_loss(log_probs, self.gamma).sum() / batch.totals.tokens, {"nll": nll})
