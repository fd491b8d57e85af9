"""Kahneman-Tversky optimization: from responses that are good or bad, without pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ostinato.algorithms.scoring import scored
from ostinato.core.errors import UserError
from ostinato.core.registry import ALGORITHMS
from ostinato.core.types import LossOutput, Mean
from ostinato.data.batches import TokenBatch
from ostinato.data.labelled import LabelledBatch, LabelledResponses
from ostinato.losses.kto import kto
from ostinato.training.parts import Parts
from ostinato.training.reference import reference_model
from ostinato.training.trainer import BaseTrainer
from ostinato.training.validation import validation_batches


@ALGORITHMS.register("kto")
class KTO(BaseTrainer):
    """Kahneman-Tversky optimization (Ethayarajh et al. 2024, arXiv:2402.01306, equations 7 and 8).

    With g the sum of (log p - log reference) over a response: desirable_weight (1 - sigmoid(beta (g - z))) where it is
    desirable, undesirable_weight (1 - sigmoid(beta (z - g))) where not; sum / sequences of the whole step. z, without
    gradient, is max(0, mean of g over the step's prompts, each with the response of the next example), one number for
    the whole step; in evaluation one for all held-out data. The reference is the model the run starts from; dropout is
    off in the policy too.
    """

    sample_format = LabelledResponses
    dropout = False

    def __init__(
        self, parts: Parts, *, beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
    ) -> None:
        super().__init__(parts)
        if parts.config.training.batch_size < 2:
            raise ValueError("a step needs two examples. Raise training.batch_size.")
        if parts.data.validation is not None and len(parts.data.validation) < 2:
            raise UserError("data: kto evaluates on two held-out examples or more. Hold out more, or none.")
        self.beta, self.desirable_weight, self.undesirable_weight = beta, desirable_weight, undesirable_weight
        self.reference = reference_model(self.model)
        self.evaluation_baseline: Tensor | None = None

    def prepare_step(self, batches: list[LabelledBatch]) -> list[LabelledBatch]:
        baseline = self.baseline(batches) if self.evaluation_baseline is None else self.evaluation_baseline
        for batch in batches:
            batch.reference = scored(self.reference, batch.tokens).log_probs
            batch.baseline = baseline
        return batches

    def compute_loss(self, batch: LabelledBatch) -> LossOutput:
        assert batch.reference is not None and batch.baseline is not None
        log_probs = scored(self.model, batch.tokens).log_probs
        gains = batch.tokens.sum_by_sequence(log_probs - batch.reference)
        weights = {"desirable_weight": self.desirable_weight, "undesirable_weight": self.undesirable_weight}
        losses = kto(gains, batch.desirable, batch.baseline, beta=self.beta, **weights)
        rewards, good, size = self.beta * gains.detach(), batch.desirable, batch.tokens.sequences
        metrics = {
            "rewards/desirable": Mean((rewards * good).sum(), good.sum()),
            "rewards/undesirable": Mean((rewards * ~good).sum(), (~good).sum()),
            "kl_baseline": Mean(batch.baseline * size, size),
        }
        return LossOutput(losses.sum() / batch.totals.sequences, metrics)

    def evaluate(self) -> dict[str, float]:
        """As for any algorithm, with one z over all that is held out."""
        if self.parts.data.validation is None:
            return {}
        with torch.no_grad(), self.parts.autocast():
            batches = (batch.to(self.strategy.device) for batch in validation_batches(self))
            self.evaluation_baseline = self.baseline(batches)
        try:
            return super().evaluate()
        finally:
            self.evaluation_baseline = None

    def baseline(self, batches: Iterable[Any]) -> Tensor:
        """z over these micro-batches of all ranks: a number, equal on all, however they are cut."""
        sums, counts = zip(
            *((self.mismatched_gain(batch.mismatched), len(batch.desirable)) for batch in batches), strict=True
        )
        own = torch.stack([torch.stack(sums).cpu(), torch.tensor(counts, dtype=torch.float64)])  # (2, micro-batches)
        total, count = (math.fsum(row) for row in self.strategy.gather(own).transpose(0, 1).flatten(1).tolist())
        return torch.tensor(max(0.0, total / count), device=self.strategy.device)

    def mismatched_gain(self, rows: TokenBatch) -> Tensor:
        """Sum of (log p - log reference) over all tokens of a batch, a float64 number."""
        return (scored(self.model, rows).log_probs - scored(self.reference, rows).log_probs).double().sum()
