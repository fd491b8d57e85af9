"""A program: the gradient of the first step of a config, by name, as a safetensors file. One process per rank."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from ostinato.core.config import Config, load_config
from ostinato.training.build import build, open_strategy
from ostinato.training.tensor_files import write_tensors


def gradient_of_step(config: Config, transform=None) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    """The whole step's gradient before the update, as the optimizer finds it, and the losses."""
    strategy = open_strategy(config)
    trainer = build(config, strategy).trainer
    found: dict[str, Tensor] = {}

    def capture() -> None:
        found.update({name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None})

    trainer.optimizer.step = capture  # type: ignore[method-assign, assignment]
    if transform is not None:
        trainer.prepare_batch = transform  # type: ignore[method-assign]
    data = next(trainer.parts.open_loader([]).steps(1))
    output = trainer.training_step(data)
    found["loss"] = torch.tensor(output.loss, dtype=torch.float64)
    found["validation"] = torch.tensor(trainer.evaluate()["validation/loss"], dtype=torch.float64)
    main = strategy.is_main
    strategy.close()
    return found if main else {}


if __name__ == "__main__":
    gradient = gradient_of_step(load_config(sys.argv[1], sys.argv[3:]))
    if gradient:
        write_tensors(Path(sys.argv[2]), gradient, {})
