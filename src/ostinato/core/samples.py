"""A sampled response, and what judges of it are told: known to generation, rewards and training alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Sample:
    """One response. The ids are those that were sampled; `text` is decoded from them, cut before a stop string."""

    prompt_ids: list[int]
    prompt: int
    """The prompt's number, the first part of the key of its random numbers: its position in the call or in the plan."""
    sample: int
    response_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    """Of each response id under softmax(z / temperature), before penalties and filters."""
    stop_reason: str = ""
    """eos, stop_string, length or context."""
    text: str = ""
    row: dict[str, Any] | None = None
    """The row of data that the prompt came from, with its gold answer."""
    top: list[list[tuple[int, float]]] = field(default_factory=list)
    """At each position the likeliest tokens with their log-probs, where alternatives were asked for."""

    @property
    def truncated(self) -> bool:
        """Whether it was cut off: it ran into the limit of its length or of the context."""
        return self.stop_reason in ("length", "context")


@dataclass(frozen=True)
class RewardContext:
    """What every reward is given when it is built."""

    max_new_tokens: int
    seed: int = 0
    device: str = "cpu"
    load_model: Callable[[str], tuple[Any, Any]] | None = None
    """`load_model("run:NAME")` gives (model, tokenizer), in evaluation mode."""
