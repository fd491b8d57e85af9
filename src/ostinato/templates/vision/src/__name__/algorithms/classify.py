"""Classification: which of K classes an image is of. B images."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from ostinato.core.errors import UserError
from ostinato.core.registry import ALGORITHMS
from ostinato.core.seeding import key
from ostinato.core.types import LossOutput, Mean
from ostinato.training.trainer import BaseTrainer, Parts
from torch import Tensor

from {{name}}.data.images import IGNORE, ImageBatch, Images


def mixed_cross_entropy(logits: Tensor, labels: Tensor, others: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """w CE(labels) + (1 - w) CE(others); (B, K), (B,), (B,), (B,) -> (B,). 0 where a label is IGNORE."""
    one, two = (
        F.cross_entropy(logits, target, ignore_index=IGNORE, label_smoothing=smoothing, reduction="none")
        for target in (labels, others)
    )
    return weights * one + (1 - weights) * two


@ALGORITHMS.register("classify")
class Classify(BaseTrainer):
    """Cross-entropy with label smoothing (arXiv:1512.00567) on images mixed in pairs (mixup, arXiv:1710.09412).

    An image's share in its pair is drawn from Beta(mixup, mixup) by seed, step and the image's place in the step: the
    same however the step is cut. `mixup` 0: none. Held-out images are neither mixed nor smoothed; which class was taken
    for which is written to outputs/eval/confusion_<step>.csv.
    """

    sample_format = Images
    headline = ("accuracy",)

    def __init__(self, parts: Parts, *, mixup: float = 0.2, label_smoothing: float = 0.1) -> None:
        super().__init__(parts)
        if mixup < 0 or not 0 <= label_smoothing < 1:
            raise ValueError("mixup is at least 0, label_smoothing in [0, 1).")
        self.mixup, self.label_smoothing = mixup, label_smoothing
        self.classes: int = self.model.classes
        for label, samples in parts.data.train.items():
            if samples.source.classes > self.classes:
                raise UserError(f"model.classes: {self.classes}, but source {label} has {samples.source.classes}.")
        self.confusion = torch.zeros(self.classes, self.classes, dtype=torch.int64)  # [label, guess]

    def prepare_batch(self, batch: ImageBatch) -> ImageBatch:
        """Mix each image with its partner."""
        if not (self.mixup and self.model.training):
            return batch
        step = self.global_step + 1
        drawn = [self.share_of(step, position) for position in batch.positions.tolist()]
        weights = torch.tensor(drawn, dtype=torch.float32, device=batch.images.device)
        images = torch.lerp(batch.partners, batch.images, weights[:, None, None, None])
        return replace(batch, images=images, weights=weights)

    def share_of(self, step: int, position: int) -> float:
        """How much of an image is left in its pair."""
        return np.random.default_rng(key(self.seed, "mixup", step, position)).beta(self.mixup, self.mixup)

    def compute_loss(self, batch: ImageBatch) -> LossOutput:
        logits = self.model(batch.images)
        smoothing = self.label_smoothing if self.model.training else 0.0
        loss = mixed_cross_entropy(logits, batch.labels, batch.partner_labels, batch.weights, smoothing)
        guesses = logits.detach().argmax(1)
        right = batch.weights * (guesses == batch.labels) + (1 - batch.weights) * (guesses == batch.partner_labels)
        counted = batch.labels != IGNORE
        if not self.model.training:
            pairs = batch.labels[counted] * self.classes + guesses[counted]
            self.confusion += torch.bincount(pairs, minlength=self.classes**2).view_as(self.confusion).cpu()
        return LossOutput(loss.sum() / batch.totals.images, {"accuracy": Mean(right[counted].sum(), counted.sum())})

    def evaluate(self) -> dict[str, float]:
        """Held-out loss and accuracy; rank 0 writes who was taken for whom."""
        self.confusion.zero_()
        found = super().evaluate()
        table = self.strategy.gather(self.confusion).sum(0)
        if found and self.parts.outputs is not None:
            folder = self.parts.outputs / "eval"
            folder.mkdir(parents=True, exist_ok=True)
            with open(folder / f"confusion_{self.global_step:08d}.csv", "w", newline="", encoding="utf-8") as file:
                header = ["label", *range(self.classes)]
                csv.writer(file).writerows([header, *([label, *row] for label, row in enumerate(table.tolist()))])
        return found
