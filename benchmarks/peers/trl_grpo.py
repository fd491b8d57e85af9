"""TRL's GRPOTrainer on a folder made by `benchmarks/grpo.py`: rows.jsonl, and the model with its tokenizer.

Runs in the environment that has trl (requirements-bench.lock), in turns with others: `benchmarks/processes.py`.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from benchmarks.peers.trl_turns import TurnAtStepEnd, begin, common_settings, log_prob


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, required=True, help="per step")
    parser.add_argument("--group", type=int, required=True)
    parser.add_argument("--new-tokens", type=int, required=True)
    parser.add_argument("--pattern", required=True, help="the reward is 1 where it matches the whole response")
    arguments, turns = begin(parser)
    folder: Path = arguments.folder
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text("utf-8").splitlines()]
    pattern = re.compile(arguments.pattern, re.DOTALL)

    def reward(completions: list[str], **_: Any) -> list[float | None]:
        return [float(pattern.fullmatch(text.strip()) is not None) for text in completions]

    settings = GRPOConfig(
        per_device_train_batch_size=arguments.prompts * arguments.group,
        num_generations=arguments.group,
        max_completion_length=arguments.new_tokens,
        beta=0.04,
        loss_type="grpo",
        use_bias_correction_kl=False,
        **common_settings(arguments),
    )
    data = Dataset.from_list(rows)
    trainer: Any = GRPOTrainer(model=str(folder / "model"), args=settings, train_dataset=data, reward_funcs=reward)
    assert trainer.model.dtype == trainer.ref_model.dtype == torch.float32
    prompts = [trainer.processing_class(row["prompt"])["input_ids"] for row in rows]
    facts = {
        "tokens of all prompts": sum(map(len, prompts)),
        "log p(second prompt | first)": log_prob(trainer.model, prompts[0], prompts[1]),
    }
    trainer.add_callback(TurnAtStepEnd(turns, facts))
    trainer.train()


if __name__ == "__main__":
    main()
