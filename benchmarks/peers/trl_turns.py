"""What TRL's trainers share as contenders that take turns: the callback, and what they say of themselves."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from benchmarks.processes import Turns


class TurnAtStepEnd(TrainerCallback):
    """Passes the turn on."""

    def __init__(self, turns: Turns, facts: dict[str, Any]) -> None:
        self.turns, self.facts = turns, facts

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.turns.step_ended(lambda: self.facts)


def begin(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Turns]:
    """The arguments, those that all have included, and the turns; threads are set."""
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chunk", type=int, required=True)
    parser.add_argument("--warmup", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--recompute", action="store_true", help="gradient checkpointing, TRL's default")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    return arguments, Turns(arguments.chunk, arguments.warmup)


def common_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What TRL's trainers are told alike: fp32 on the CPU, nothing reported or saved, until they are stopped."""
    return {
        "output_dir": str(arguments.folder / "trl"),
        "max_steps": 1_000_000,
        "gradient_checkpointing": arguments.recompute,
        "bf16": False,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


@torch.no_grad()
def log_prob(model: Any, prompt: list[int], response: list[int]) -> float:
    """log p(response | prompt)."""
    logits = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1)[range(len(response)), response].double().sum().item()
