"""A trainer whose policy has left its reference, and the gradient of its step. As a program: one process per rank."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from ostinato.core.config import Config, load_config
from ostinato.training.build import build, open_strategy
from ostinato.training.tensor_files import write_tensors
from ostinato.training.trainer import BaseTrainer


def moved(config: Config, by: float = 0.2) -> BaseTrainer:
    """A built trainer; every weight of its reference (where it has none, of its model) has got noise that deviates by
    `by`, so that the policy likes most responses better than the reference does: KTO's z is above 0."""
    trainer = build(config, open_strategy(config)).trainer
    disturbed = getattr(trainer, "reference", None) or trainer.model
    with torch.no_grad():
        for number, parameter in enumerate(disturbed.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter += by * noise * (parameter.numel() > 1)
    return trainer


def gradient_when_moved(config: Config) -> dict[str, Tensor]:
    """The gradient of the first step by name, all metrics of the step, and all of the evaluation."""
    trainer = moved(config)
    found: dict[str, Tensor] = {}

    def capture() -> None:
        found.update({name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None})

    trainer.optimizer.step = capture  # type: ignore[method-assign, assignment]
    loader = trainer.parts.open_loader([])
    output = trainer.training_step(next(loader.steps(1)))
    loader.close()
    metrics = {"loss": output.loss, **output.metrics, **trainer.evaluate()}
    found |= {f"metric {name}": torch.tensor([value], dtype=torch.float64) for name, value in metrics.items()}
    main = trainer.strategy.is_main
    trainer.strategy.close()
    return found if main else {}


if __name__ == "__main__":
    gradient = gradient_when_moved(load_config(sys.argv[1], sys.argv[3:]))
    if gradient:
        write_tensors(Path(sys.argv[2]), gradient, {})
