"""Our trainer by a config as a contender that takes turns (`benchmarks/processes.py`); every step is recorded."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.processes import Turns
from benchmarks.tiny_llama import make_trainer
from ostinato.core.types import StepOutput
from ostinato.training.hooks import RecordStep
from ostinato.training.trainer import BaseTrainer


def main(config: str, chunk: str, warmup: str, *overrides: str) -> None:
    """Train until nothing more is asked."""
    turns = Turns(int(chunk), int(warmup))
    trainer = make_trainer(config, [*overrides, "training.total_steps=1000000"])

    def ended(_: BaseTrainer, output: StepOutput) -> None:
        turns.step_ended()

    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "metrics.jsonl").open("w") as rows:
        trainer.add_hook(RecordStep(lambda *row: print(row, file=rows, flush=True)))
        trainer.add_hook(ended)
        trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
