"""What a run prints at its start: model, batch, numerics."""

from __future__ import annotations

import torch

from ostinato.core.rules import describe_batch
from ostinato.training import numerics
from ostinato.training.initialise import counted
from ostinato.training.trainer import BaseTrainer


def describe(trainer: BaseTrainer, tier: str) -> list[str]:
    """The lines printed at the start: model, batch, numerics."""
    config, strategy = trainer.config, trainer.strategy
    name = config.model.name or config.model.init_from
    return [
        f"model      {name}, {counted(trainer.parts.models)}, {config.training.mixed_precision}, {strategy.device}",
        f"batch      {describe_batch(config.training, strategy.world_size)}",
        f"numerics   {tier}: {numerics.PROMISES[tier]} ({torch.get_num_threads()} threads)",
    ]
