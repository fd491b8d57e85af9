"""The training loop. An algorithm is one subclass with one method, `compute_loss`; the rest holds for all of them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, ClassVar

import torch

from ostinato.core import seeding
from ostinato.core.errors import OstinatoError
from ostinato.core.stopping import StopRequested
from ostinato.core.types import Batch, LossOutput, StepOutput, Totals
from ostinato.data.formats import SampleFormat
from ostinato.data.loader import StepData
from ostinato.data.windows import Windows
from ostinato.distributed.strategy import step_totals
from ostinato.training.guards import Rewind
from ostinato.training.metrics import add_up
from ostinato.training.optimizers import set_learning_rate
from ostinato.training.parts import Parts
from ostinato.training.saver import Saver
from ostinato.training.validation import validate

Hook = Callable[["BaseTrainer", StepOutput], None]


class BaseTrainer(ABC):
    """Subclass it, set `sample_format`, implement `compute_loss`.

    Example:
        @ALGORITHMS.register("pretrain")
        class Pretrain(BaseTrainer):
            sample_format = Windows
            def compute_loss(self, batch):
                scores = self.model(batch.tokens, batch.positions, batch.documents, labels=batch.labels)
                return LossOutput(-scores.log_probs.sum() / batch.totals.tokens)
    """

    sample_format: ClassVar[type[SampleFormat]] = Windows

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.config, self.strategy, self.model = parts.config, parts.strategy, parts.model
        self.optimizer, self.tokenizer = parts.optimizer, parts.data.tokenizer
        self.seed: int = parts.config.experiment.seed
        self.total_steps: int = parts.config.training.total_steps
        self.global_step = 0  # steps done; steps count from 1
        self.step_data: StepData | None = None
        self.plan_skips: list[tuple[int, int]] = []
        self.perf: dict[str, float] = {}
        self._hooks: list[tuple[Hook, int]] = []
        self.validation_totals: Totals | None = None

    # ---- what an algorithm defines

    @abstractmethod
    def compute_loss(self, batch: Any) -> LossOutput:
        """The loss of one micro-batch: its sum over units, divided by `batch.totals`; never a mean of its own."""

    def prepare_step(self, batches: list[Any]) -> list[Any]:
        """Once per step, without gradient, over all of this rank's micro-batches: rollouts, statistics of the step."""
        return [self.prepare_batch(batch) for batch in batches]

    def prepare_batch(self, batch: Any) -> Any:
        """Once per micro-batch, without gradient, before the first forward pass: reference log-probs and the like."""
        return batch

    def derive(self, metrics: dict[str, float]) -> dict[str, float]:
        """Metrics that follow from others once these are divided, such as perplexity from the loss."""
        return metrics

    def state(self) -> dict[str, Any]:
        """What the algorithm itself must find again after a resume: tensors, exact integers and floats by name."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:  # noqa: B027 - most algorithms have none
        """The reverse of `state`."""

    # ---- the loop

    def train(self) -> None:
        """Train to `total_steps`, calling the hooks after each step. Raises StopRequested when asked to stop."""
        while self.global_step < self.total_steps:
            try:
                self._run()
            except Rewind:
                self.saver.rewind(self)

    def _run(self) -> None:
        self.model.train()
        with closing(self.parts.open_loader(self.plan_skips)) as loader:
            steps = loader.steps(self.global_step + 1)
            while self.global_step < self.total_steps:
                started = time.perf_counter()
                self.step_data = next(steps)
                waited = time.perf_counter() - started
                output = self.training_step(self.step_data)
                self.global_step = output.step
                self.perf = {"seconds": time.perf_counter() - started, "data_wait_seconds": waited}
                for hook, every in self._hooks:
                    if self.global_step == self.total_steps or (every and self.global_step % every == 0):
                        hook(self, output)
                self.poll(everywhere=True)

    def training_step(self, data: StepData) -> StepOutput:
        """One step: prepare once, then one update. An algorithm with several updates per rollout overrides this."""
        batches = [batch.to(self.strategy.device) for batch in data.micro_batches]
        with torch.no_grad(), self.parts.autocast():
            batches = self.prepare_step(batches)
        return self.optimize(batches)

    def optimize(self, batches: Sequence[Batch]) -> StepOutput:
        """One update: micro-batches forward and backward, clip, check, step."""
        started = time.perf_counter()
        step = self.global_step + 1
        totals = step_totals(self.strategy, list(batches))
        if not any(totals.values()):
            raise OstinatoError(f"step {step}: no trained unit in the whole step ({totals}). Check the data's masks.")
        outputs = []
        for index, batch in enumerate(batches):
            batch.totals = totals
            seeding.reset_global(self.seed, "model", step, index * self.strategy.world_size + self.strategy.rank)
            with self.parts.autocast():
                output = self.compute_loss(batch)
            self.strategy.backward(output.loss, last=index == len(batches) - 1)
            outputs.append(LossOutput(output.loss.detach(), output.metrics))
            self.poll()
        norm = self.strategy.clip_grad_norm(self.model.parameters(), self.config.training.max_grad_norm)
        sums = add_up(self.strategy, outputs, [norm])
        learning_rate = self.parts.learning_rate_at(step)
        if self.parts.guard.allows(step, sums.loss, sums.extra[0], sums.losses, self.model):
            set_learning_rate(self.optimizer, learning_rate)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        metrics = self.derive({"loss": sums.loss, **sums.metrics})
        seconds = time.perf_counter() - started
        return StepOutput(
            step, metrics.pop("loss"), metrics, sums.extra[0], learning_rate, totals.get("tokens", 0), seconds
        )

    def evaluate(self) -> dict[str, float]:
        """Exact held-out metrics, `validation/loss` and the rest; empty when no data is held out."""
        if self.parts.data.validation is None:
            return {}
        return {f"validation/{name}": value for name, value in validate(self).items()}

    def poll(self, *, everywhere: bool = False) -> None:
        """Raise StopRequested if a stop signal came; several ranks agree at a step's end (`everywhere`)."""
        number = self.parts.stop.number
        if self.strategy.world_size > 1:
            if not everywhere:
                return
            number = int(self.strategy.gather(torch.tensor([number])).max())
        if number:
            self.optimizer.zero_grad(set_to_none=True)
            raise StopRequested(number)

    # ---- hooks and rewinding

    def add_hook(self, hook: Hook, every: int = 1) -> None:
        """Call `hook(trainer, output)` after every `every`-th step and after the last; 0: only after the last."""
        self._hooks.append((hook, every))

    def stateful(self) -> list[Any]:
        """The hooks and policies whose `state()` belongs into a checkpoint."""
        return [self.parts.guard, *(hook for hook, _ in self._hooks if hasattr(hook, "load_state"))]

    def save_checkpoint(self, *, wait: bool = True) -> None:
        """Save the state after the last whole step."""
        self.saver.save(self, wait=wait)

    def load_checkpoint(self) -> int:
        """Go on from the newest good checkpoint; returns its step, 0 if none was ever written."""
        return self.saver.load(self)

    @property
    def saver(self) -> Saver:
        if self.parts.saver is None:
            raise OstinatoError("this trainer was built without a folder for checkpoints")
        return self.parts.saver
