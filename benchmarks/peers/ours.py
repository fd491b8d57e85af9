"""Our trainer as a process of its own, for peers that cannot take turns within one; prints trained tokens/s."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.measure import ROOT, THREADS
from benchmarks.sft import OVERRIDES
from ostinato.core.config import load_config
from ostinato.core.types import StepOutput
from ostinato.training.build import build, open_strategy
from ostinato.training.trainer import BaseTrainer

STEPS, WARMUP = 20, 3


def main(folder: Path) -> None:
    """Packed SFT on the folder's rows, as `benchmarks/sft.py` configures it."""
    own = [f"data.train.path={folder / 'rows.jsonl'}", f"training.total_steps={STEPS}", f"training.threads={THREADS}"]
    config = load_config(str(ROOT / "configs" / "algorithms" / "sft.yaml"), [*OVERRIDES, *own])
    strategy = open_strategy(config)
    trainer = build(config, strategy).trainer
    ends: list[tuple[float, float, int]] = []

    def note(_: BaseTrainer, output: StepOutput) -> None:
        ends.append((time.perf_counter(), time.process_time(), output.tokens))

    trainer.add_hook(note)
    trainer.train()
    strategy.close()
    tokens = sum(count for *_, count in ends[WARMUP:])
    wall, processor = (ends[-1][clock] - ends[WARMUP - 1][clock] for clock in (0, 1))
    print(json.dumps({"wall": tokens / wall, "processor": tokens / processor}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
