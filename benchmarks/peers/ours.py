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
    ends: list[tuple[float, int]] = []

    def note(_: BaseTrainer, output: StepOutput) -> None:
        ends.append((time.perf_counter(), output.tokens))

    trainer.add_hook(note)
    trainer.train()
    strategy.close()
    seconds, tokens = ends[-1][0] - ends[WARMUP - 1][0], sum(count for _, count in ends[WARMUP:])
    print(json.dumps({"tokens_per_second": tokens / seconds, "tokens": tokens, "seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
