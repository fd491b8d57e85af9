"""The training loop. An algorithm is one subclass with one method, `compute_loss`; the rest holds for all of them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, ClassVar

import torch
from torch import nn

from ostinato.core import seeding
from ostinato.core.errors import OstinatoError
from ostinato.core.stopping import StopRequested
from ostinato.core.types import Batch, LossOutput, StepOutput
from ostinato.data.formats import SampleFormat
from ostinato.data.loader import StepData
from ostinato.data.windows import Windows
from ostinato.distributed.strategy import agreed_signal, step_totals
from ostinato.training.guards import Rewind
from ostinato.training.metrics import StepMetrics, add_up, combined
from ostinato.training.model_maker import ModelMaker
from ostinato.training.optimizers import named_parameters, set_learning_rate
from ostinato.training.parts import Parts
from ostinato.training.saver import Saver
from ostinato.training.validation import validate

Hook = Callable[["BaseTrainer", StepOutput], None]


class BaseTrainer(ABC):
    """Subclass it, set `sample_format`, implement `compute_loss`. Example:

    @ALGORITHMS.register("pretrain")
    class Pretrain(BaseTrainer):
        def compute_loss(self, batch):
            scores = self.model(batch.tokens, batch.positions, batch.documents, labels=batch.labels)
            return LossOutput(-scores.log_probs.sum() / batch.totals.tokens)
    """

    sample_format: ClassVar[type[SampleFormat]] = Windows
    model_output: ClassVar[str] = "tokens"  # or scalar (one number per token), or both
    dropout: ClassVar[bool] = True  # False: the model is trained without, whatever its options say
    empty_updates: ClassVar[bool] = False  # an update without any unit is skipped; False: it is an error

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        for model in parts.models.values():
            model.train(self.dropout)
        self.config, self.strategy, self.model = parts.config, parts.strategy, parts.models["model"]
        self.optimizer, self.tokenizer = parts.optimizer, parts.data.tokenizer
        self.seed, self.total_steps = parts.config.experiment.seed, parts.config.training.total_steps
        self.global_step, self.plan_step = 0, 0  # steps done, and steps of the data plan that went into them
        self.plan_read = 0  # those read, for the step under way too
        self.step_data: StepData | None = None
        self._plan: Iterator[StepData] = iter(())
        self._started = time.perf_counter()
        self.plan_skips: list[tuple[int, int]] = []
        self.perf: dict[str, float] = {}  # of the step that is under way
        self._hooks: list[tuple[Hook, int]] = []

    # ---- what an algorithm defines

    @classmethod
    def make_models(cls, make: ModelMaker, options: Mapping[str, Any]) -> dict[str, nn.Module]:
        """The models to train: `model`, which the run is for, and others beside it, such as a critic."""
        return {"model": make()}

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
        with closing(self.parts.open_loader(self.plan_skips)) as loader:
            self._plan, self.plan_read = loader.steps(self.plan_step + 1), self.plan_step
            while self.global_step < self.total_steps:
                self.perf, self._started = {"data_wait_seconds": 0.0}, time.perf_counter()
                output = self.training_step(self.next_data())
                self.global_step, self.plan_step = output.step, self.plan_read
                self.perf["seconds"] = time.perf_counter() - self._started
                for hook, every in self._hooks:
                    if self.global_step == self.total_steps or (every and self.global_step % every == 0):
                        hook(self, output)
                self.poll(everywhere=True)

    def next_data(self) -> StepData:
        """This rank's share of the next step of the data plan; a training step may ask for more than one."""
        started = time.perf_counter()
        self.step_data, self.plan_read = next(self._plan), self.plan_read + 1
        self.perf["data_wait_seconds"] += time.perf_counter() - started
        return self.step_data

    def training_step(self, data: StepData) -> StepOutput:
        """One step: prepare once, then one update. An algorithm with several updates per rollout overrides this."""
        with torch.no_grad(), self.parts.autocast():
            batches = self.prepare_step([batch.to(self.strategy.device) for batch in data.micro_batches])
        return self.finish_step([self.update(batches)])

    def update(self, batches: Sequence[Batch]) -> StepMetrics:
        """One update: micro-batches forward and backward, clip, check, step."""
        step = self.global_step + 1
        totals = step_totals(self.strategy, list(batches))
        if not any(totals.values()) and self.empty_updates:
            return StepMetrics(0.0, {}, [], [0.0], skipped=1)
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
        named = named_parameters(self.optimizer)
        norm = self.strategy.clip_grad_norm([p for _, p in named], self.config.training.max_grad_norm)
        sums = add_up(self.strategy, outputs, [norm])
        sums.tokens = totals.get("tokens", 0)
        if self.parts.guard.allows(step, sums.loss, sums.extra[0], sums.losses, named):
            set_learning_rate(self.optimizer, self.parts.learning_rate_at(step))
            self.optimizer.step()
        else:
            sums.skipped = 1
        self.optimizer.zero_grad(set_to_none=True)
        return sums

    def finish_step(self, updates: Sequence[StepMetrics], more: Sequence[StepMetrics] = ()) -> StepOutput:
        """The record of a step of one or more updates, with the metrics of what went before them (`more`)."""
        whole, step = combined(updates, more), self.global_step + 1
        metrics = self.derive({"loss": whole.loss, **whole.metrics})
        rate, seconds = self.parts.learning_rate_at(step), time.perf_counter() - self._started
        loss, norm = metrics.pop("loss"), whole.extra[0]
        return StepOutput(step, loss, metrics, norm, rate, whole.tokens, seconds, whole.skipped)

    def evaluate(self) -> dict[str, float]:
        """Exact held-out metrics, `validation/loss` and the rest; empty when no data is held out."""
        found = {} if self.parts.data.validation is None else validate(self)
        return {f"validation/{name}": value for name, value in found.items()}

    def poll(self, *, everywhere: bool = False) -> None:
        """Raise StopRequested if a stop signal came; several ranks agree at a step's end (`everywhere`)."""
        if number := agreed_signal(self.strategy, self.parts.stop.number, everywhere):
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
