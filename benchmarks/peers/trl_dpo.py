"""TRL's DPOTrainer on a folder made by `benchmarks/dpo.py`: rows.jsonl, and the model with its tokenizer.

Runs in the environment that has trl (requirements-bench.lock), in turns with others: `benchmarks/processes.py`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from benchmarks.peers.trl_turns import TurnAtStepEnd, begin, common_settings, log_prob


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, required=True, help="per step")
    arguments, turns = begin(parser)
    folder: Path = arguments.folder
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text("utf-8").splitlines()]
    settings = DPOConfig(
        per_device_train_batch_size=arguments.pairs,
        beta=0.1,
        **common_settings(arguments),
    )
    trainer: Any = DPOTrainer(model=str(folder / "model"), args=settings, train_dataset=Dataset.from_list(rows))
    assert trainer.model.dtype == trainer.ref_model.dtype == torch.float32
    data = trainer.train_dataset
    trained = sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in data)
    facts = {
        "tokens of all pairs": trained + 2 * sum(len(row["prompt_ids"]) for row in data),
        "trained tokens of all pairs": trained,
        "log p(chosen) of the first pair": log_prob(trainer.model, data[0]["prompt_ids"], data[0]["chosen_ids"]),
    }
    trainer.add_callback(TurnAtStepEnd(turns, facts))
    trainer.train()


if __name__ == "__main__":
    main()
