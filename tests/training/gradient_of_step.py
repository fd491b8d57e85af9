"""A program: the gradient of the first step of a config, by name, as a safetensors file. One process per rank."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from ostinato.core.config import Config, load_config
from ostinato.training.build import build, open_strategy
from ostinato.training.optimizers import named_parameters
from ostinato.training.tensor_files import write_tensors


def gradient_of_step(config: Config, transform=None) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    """The whole step's gradient before the update, as the optimizer finds it, and the losses."""
    strategy = open_strategy(config)
    trainer = build(config, strategy).trainer
    found: dict[str, Tensor] = {}

    def capture() -> None:
        named = named_parameters(trainer.optimizer)
        found.update({name: p.grad.clone() for name, p in named if p.grad is not None})

    trainer.optimizer.step = capture  # type: ignore[method-assign, assignment]
    if transform is not None:
        trainer.prepare_batch = transform  # type: ignore[method-assign]
    trainer.perf, trainer._plan = {"data_wait_seconds": 0.0}, trainer.parts.open_loader([]).steps(1)
    output = trainer.training_step(trainer.next_data())
    found["loss"] = torch.tensor(output.loss, dtype=torch.float64)
    held_out = trainer.evaluate()
    names = ["validation/loss"] if "validation/loss" in held_out else sorted(held_out)
    found["validation"] = torch.tensor([held_out[name] for name in names], dtype=torch.float64).nan_to_num()
    main = strategy.is_main
    strategy.close()
    return found if main else {}


if __name__ == "__main__":
    gradient = gradient_of_step(load_config(sys.argv[1], sys.argv[3:]))
    if gradient:
        write_tensors(Path(sys.argv[2]), gradient, {})
