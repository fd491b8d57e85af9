"""Between a trainer and its checkpoints: what is saved and when, loading the newest good one, and rewinding."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from ostinato.core.errors import OstinatoError
from ostinato.core.types import StepOutput
from ostinato.distributed.strategy import Strategy
from ostinato.training.checkpoint import Snapshot
from ostinato.training.checkpoint_folder import Checkpoints
from ostinato.training.state import collect, restore

if TYPE_CHECKING:
    from ostinato.training.trainer import BaseTrainer


class Saver:
    """A hook that saves; rank 0 writes. Where each rank holds a part of the state, all gather it, tensor by tensor.

    `facts` goes into each manifest (run, world, fingerprints); `model_files` lie beside the weights (config.json,
    tokenizer); `sync()` makes the metrics rows durable before a checkpoint is committed.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        facts: dict[str, Any],
        model_files: dict[str, bytes],
        sync: Callable[[], None] = lambda: None,
    ) -> None:
        self.checkpoints = checkpoints
        self.facts = facts
        self.model_files = model_files
        self.sync = sync
        self.every = 0
        self.evaluated: dict[str, float] = {}  # the newest held-out metrics, for `keep_best`
        self.evaluated_step = 0
        self.saved_step = 0

    def __call__(self, trainer: BaseTrainer, output: StepOutput) -> None:
        last = output.step == trainer.total_steps
        due = bool(self.every) and output.step % self.every == 0
        if due or last or self.must_retry(trainer.strategy):
            self.save(trainer, wait=last)

    def save(self, trainer: BaseTrainer, *, wait: bool) -> None:
        """Copy the state and write it; a step that was just saved, or step 0, is not saved again."""
        strategy = trainer.strategy
        if not (strategy.is_main or strategy.sharded):
            return
        if trainer.global_step and trainer.global_step != self.saved_step or self.must_retry(strategy):
            self.saved_step = trainer.global_step
            if strategy.is_main:
                self.sync()
            tensors, state = collect(trainer)
            if not strategy.is_main:
                return
            metrics = self.evaluated if self.evaluated_step == trainer.global_step else {}
            snapshot = Snapshot(trainer.global_step, tensors, self.model_files, state, self.facts, metrics)
            self.checkpoints.save(snapshot, wait=wait)
        if wait:
            self.checkpoints.wait()
            if self.checkpoints.failures:
                raise OstinatoError("cannot save: the last checkpoint of this run could not be written.")

    def must_retry(self, strategy: Strategy) -> bool:
        """Whether the last save failed: what rank 0 knows, which ranks that save together must agree on."""
        failed = strategy.is_main and self.checkpoints.must_retry
        return bool(strategy.gather(torch.tensor([failed])).any()) if strategy.sharded else failed

    def load(self, trainer: BaseTrainer) -> int:
        """Restore the newest good checkpoint, verified by rank 0; returns its step, 0 if none was ever written."""
        found: Any = None
        if trainer.strategy.is_main:
            try:
                found = self.checkpoints.newest(self.facts.get("run", {}).get("id"))
            except Exception as error:
                found = error
        found = trainer.strategy.share(found)
        if isinstance(found, Exception):
            raise found
        if found is None:
            return 0
        folder, manifest = found
        restore(trainer, folder, manifest)
        self.saved_step = manifest["step"]
        return manifest["step"]

    def rewind(self, trainer: BaseTrainer) -> None:
        """Back to the last checkpoint, and read on behind the offending step."""
        offending, read = trainer.global_step + 1, trainer.plan_read
        self.checkpoints.wait()
        back_to = self.load(trainer)
        if back_to == 0:
            raise OstinatoError(f"step {offending}: the loss jumped, and there is no checkpoint to rewind to.")
        trainer.plan_skips = [*trainer.plan_skips, (trainer.plan_step + 1, read - trainer.plan_step)]
        if trainer.strategy.is_main:
            self.checkpoints.put_aside_after(back_to)
            self.checkpoints.event("rewound", back_to, offending_step=offending)
