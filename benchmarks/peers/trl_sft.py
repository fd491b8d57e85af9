"""TRL's SFTTrainer on a folder made by `benchmarks/sft.py`: rows.jsonl, llama.json, tokenizer files.

Runs in the environment that has trl (requirements-bench.lock), prints one JSON line: trained tokens per second
after the warm-up steps, by the wall's clock and by the processor's.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """(wall, processor) time at the end of every step."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append((time.perf_counter(), time.process_time()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--rows", type=int, default=8, help="packed rows per step")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--recompute", action="store_true", help="gradient checkpointing, TRL's default")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    folder: Path = arguments.folder
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text("utf-8").splitlines()]
    dataset = Dataset.from_list([{"prompt": row["prompt"], "completion": row["response"]} for row in rows])
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**json.loads((folder / "llama.json").read_text())))
    settings = SFTConfig(
        output_dir=str(folder / "trl"),
        max_steps=arguments.steps,
        per_device_train_batch_size=arguments.rows,
        packing=True,
        max_length=arguments.length,
        gradient_checkpointing=arguments.recompute,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        learning_rate=1e-3,
        dataloader_pin_memory=False,
    )
    clock = Clock()
    trainer = SFTTrainer(
        model=model, args=settings, train_dataset=dataset, processing_class=tokenizer, callbacks=[clock]
    )
    trained: list[int] = []
    collate = trainer.data_collator

    def counting(examples: list[Any]) -> Any:
        batch = collate(examples)
        trained.append(int((batch["labels"][:, 1:] != -100).sum()))
        return batch

    trainer.data_collator = counting
    trainer.train()
    first = arguments.warmup
    tokens = sum(trained[first : arguments.steps])
    wall, processor = (end - start for start, end in zip(clock.ends[first - 1], clock.ends[-1], strict=True))
    print(json.dumps({"wall": tokens / wall, "processor": tokens / processor}))


if __name__ == "__main__":
    main()
