"""What happens after a step, and how often: any callable `hook(trainer, output)`. These are the built-in ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ostinato.core.types import StepOutput
from ostinato.distributed.shards import own, put
from ostinato.training.goals import Goal

if TYPE_CHECKING:
    from ostinato.training.trainer import BaseTrainer

Write = Callable[[dict[str, Any], Mapping[str, float]], None]  # (fields of the framework, metrics)


class RecordStep:
    """One row of metrics per step; all of it but `perf` is reproducible."""

    def __init__(self, write: Write) -> None:
        self.write = write

    def __call__(self, trainer: BaseTrainer, output: StepOutput) -> None:
        seconds = trainer.perf["seconds"]
        perf = {**trainer.perf, "tokens_per_second": output.tokens / seconds if seconds else 0.0}
        if trainer.strategy.device.type == "cuda":
            perf["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        row = {
            "kind": "train",
            "step": output.step,
            "loss": output.loss,
            "grad_norm": output.grad_norm,
            "learning_rate": output.learning_rate,
            "tokens": output.tokens,
            "skipped_updates": output.skipped_updates,
            "data": trainer.step_data.data if trainer.step_data else "",
            "perf": perf,
        }
        self.write(row, output.metrics)


class Evaluate:
    """Held-out metrics, with the averaged weights as well if there are any. Once they reach the goal, training ends."""

    def __init__(self, write: Write, average: Average | None = None, goal: Goal | None = None) -> None:
        self.write, self.average, self.goal = write, average, goal

    def __call__(self, trainer: BaseTrainer, output: StepOutput) -> None:
        metrics = trainer.evaluate()
        if metrics and self.average is not None:
            with self.average.swapped(trainer.model):
                metrics |= {f"{name}_average": value for name, value in trainer.evaluate().items()}
        if not metrics:
            return
        if (saver := trainer.parts.saver) is not None:
            saver.evaluated, saver.evaluated_step = metrics, output.step
        self.write({"kind": "eval", "step": output.step}, metrics)
        if self.goal is not None and output.step and self.goal.reached(metrics):
            trainer.total_steps = output.step


class Average:
    """An exponential moving average of the weights: average += (1 - decay) * (weight - average), after each step."""

    name = "average"

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {
            n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad
        }

    @torch.no_grad()
    def __call__(self, trainer: BaseTrainer, output: StepOutput) -> None:
        current = dict(trainer.model.named_parameters())
        averages = [own(average) for average in self.weights.values()]
        torch._foreach_lerp_(averages, [own(current[n]) for n in self.weights], 1.0 - self.decay)

    def swapped(self, model: nn.Module) -> Swapped:
        """A context in which the model has the averaged weights."""
        return Swapped(model, self.weights)

    def state(self) -> Mapping[str, Tensor]:
        return self.weights

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for name, weight in self.weights.items():
            put(weight, state[name])


class Swapped:
    """The model with other weights while inside; the training weights come back bit for bit."""

    def __init__(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        self.parameters = {name: p for name, p in model.named_parameters() if name in weights}
        self.weights = weights

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        """In place, since a sharded parameter's memory is what is gathered."""
        for name, parameter in self.parameters.items():
            mine, other = own(parameter), own(self.weights[name])
            before = mine.clone()
            mine.copy_(other)
            other.copy_(before)


class Profile:
    """A trace of the steps first..last for chrome://tracing or Perfetto, in the run folder."""

    def __init__(self, path: str, first: int, last: int) -> None:
        self.path, self.first, self.last = path, first, last
        self.profiler: Any = None

    def __call__(self, trainer: BaseTrainer, output: StepOutput) -> None:
        if output.step == self.first - 1 or (output.step == self.first and self.profiler is None):
            self.profiler = torch.profiler.profile()
            self.profiler.__enter__()
        elif output.step >= self.last and self.profiler is not None:
            self.profiler.__exit__(None, None, None)
            self.profiler.export_chrome_trace(self.path)
            self.profiler = None
            self.first = -1
