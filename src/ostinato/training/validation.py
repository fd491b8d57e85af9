"""Exact held-out metrics: the sums and counts of training, so the result depends neither on batch size nor on ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from ostinato.core.types import Batch
from ostinato.data.loader import evaluation_batches
from ostinato.distributed.strategy import step_totals
from ostinato.training.metrics import add_up

if TYPE_CHECKING:
    from ostinato.training.trainer import BaseTrainer


def validation_batches(trainer: BaseTrainer) -> Iterator[Batch]:
    """This rank's micro-batches of the held-out data, in order, once."""
    training, strategy, data = trainer.config.training, trainer.strategy, trainer.parts.data
    rows = trainer.config.evaluation.batch_size or training.micro_batch_size or training.batch_size
    assert data.validation is not None
    return evaluation_batches(data.validation, data.format, rows, strategy.rank, strategy.world_size)


@torch.no_grad()
def validate(trainer: BaseTrainer) -> dict[str, float]:
    """`loss` and the algorithm's metrics over all held-out samples."""
    if trainer.parts.validation_totals is None:  # the data does not change: counted once, without the model
        trainer.parts.validation_totals = step_totals(trainer.strategy, list(validation_batches(trainer)))
    outputs: list[Any] = []
    trainer.model.eval()
    try:
        for batch in validation_batches(trainer):
            with trainer.parts.autocast():
                (prepared,) = trainer.prepare_step([batch.to(trainer.strategy.device)])
                prepared.totals = trainer.parts.validation_totals
                outputs.append(trainer.compute_loss(prepared))
            trainer.poll()
    finally:
        trainer.model.train(trainer.dropout)
    sums = add_up(trainer.strategy, outputs)
    return trainer.derive({"loss": sums.loss, **sums.metrics})
