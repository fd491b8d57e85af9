"""A reward model: a number for each response, learnt from pairs of a better and a worse one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ostinato.core.registry import ALGORITHMS
from ostinato.core.types import LossOutput, Mean, StepOutput
from ostinato.data.loader import StepData
from ostinato.data.pairs import Pairs, PreferenceBatch
from ostinato.losses.bradley_terry import bradley_terry
from ostinato.training.parts import Parts
from ostinato.training.trainer import BaseTrainer

BINS = 10
BIN = "calibration/{}"


@ALGORITHMS.register("reward_model")
class RewardModel(BaseTrainer):
    """Bradley-Terry reward model (arXiv:2203.02155; margins 2307.09288; centring 2312.09244).

    The reward r is a bias-free scalar head on a response's last token. Per pair -log sigmoid(r_chosen - r_rejected -
    margin) + center_coefficient (r_chosen + r_rejected)^2; sum / pairs of the whole step. `margin` is a row's, 0 where
    it has none. Evaluation adds the standard error of the accuracy, and keeps mean and deviation of the held-out
    rewards with the model. `calibration` is the expected calibration error of sigmoid(|r_chosen - r_rejected|) as the
    probability that the higher one is the chosen one, in 10 bins (arXiv:1706.04599).
    """

    sample_format = Pairs
    model_output = "scalar"

    def __init__(self, parts: Parts, *, center_coefficient: float = 0.01) -> None:
        super().__init__(parts)
        self.center_coefficient = center_coefficient
        self.kept = False

    def training_step(self, data: StepData) -> StepOutput:
        self.kept = False
        return super().training_step(data)

    def compute_loss(self, batch: PreferenceBatch) -> LossOutput:
        rows = batch.tokens
        rewards = self.model(rows.tokens, rows.positions, rows.documents, trained=batch.ends).float()  # (2P,)
        chosen, rejected = rewards[0::2], rewards[1::2]
        losses = bradley_terry(chosen, rejected, batch.margins, center_coefficient=self.center_coefficient)
        return LossOutput(losses.sum() / batch.totals.pairs, reward_metrics(rewards.detach().double()))

    def derive(self, metrics: dict[str, float]) -> dict[str, float]:
        gaps = [abs(metrics.pop(BIN.format(number))) for number in range(BINS)]
        variance = metrics["reward/std"] - metrics["reward/mean"] ** 2
        return {**metrics, "reward/std": math.sqrt(max(0.0, variance)), "calibration": math.fsum(gaps)}

    def evaluate(self) -> dict[str, float]:
        metrics = super().evaluate()
        if metrics and self.parts.validation_totals is not None:
            accuracy, pairs = metrics["validation/accuracy"], self.parts.validation_totals.pairs
            metrics["validation/accuracy_error"] = math.sqrt(accuracy * (1.0 - accuracy) / pairs)
            self.keep_moments(metrics["validation/reward/mean"], metrics["validation/reward/std"])
        return metrics

    def keep_moments(self, mean: float, deviation: float) -> None:
        """Store them with the weights. Only the first evaluation after a step counts: another one would be of averaged
        weights."""
        if not self.kept and hasattr(self.model, "reward_mean"):
            self.kept = True
            for name, value in (("reward_mean", mean), ("reward_std", deviation)):
                getattr(self.model, name).data.fill_(value)


def reward_metrics(rewards: Tensor) -> dict[str, Mean]:
    """Of (2P,) float64 rewards. `reward/std` is the mean of squares and `calibration/k` the bins' gaps until `derive`
    makes them what they are called."""
    difference = rewards[0::2] - rewards[1::2]
    pairs, right = len(difference), (difference > 0).double()
    sure = torch.sigmoid(difference.abs())  # 0.5 ... 1
    bins = ((sure - 0.5) * 2 * BINS).long().clamp(max=BINS - 1)
    gaps = sure.new_zeros(BINS).index_add(0, bins, sure - right)
    metrics = {
        "accuracy": Mean(right.sum(), pairs),
        "margin": Mean(difference.sum(), pairs),
        "reward/mean": Mean(rewards.sum(), 2 * pairs),
        "reward/std": Mean((rewards**2).sum(), 2 * pairs),
    }
    return metrics | {BIN.format(number): Mean(gaps[number], pairs) for number in range(BINS)}
