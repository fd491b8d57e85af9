"""What TRL's trainers share as contenders that take turns: the callback, and what they say of themselves."""

from __future__ import annotations

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


@torch.no_grad()
def log_prob(model: Any, prompt: list[int], response: list[int]) -> float:
    """log p(response | prompt)."""
    logits = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1)[range(len(response)), response].double().sum().item()
