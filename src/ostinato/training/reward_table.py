"""All ranks' responses of a step as one table: what statistics, decisions and metrics of rollouts are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ostinato.core.types import Max, Mean, Min
from ostinato.training.metrics import StepMetrics, Sum
from ostinato.training.responses import Response

STOPS = ("eos", "stop_string", "length", "context")


@dataclass(frozen=True)
class Table:
    """All ranks' responses, (R,) each, by prompt, then by sample; nan is None."""

    prompt: np.ndarray
    sample: np.ndarray
    score: np.ndarray
    raw: np.ndarray
    tokens: np.ndarray
    stop: np.ndarray  # index into STOPS
    penalty: np.ndarray
    parts: dict[str, np.ndarray]

    @property
    def truncated(self) -> np.ndarray:
        return self.stop >= STOPS.index("length")

    def only(self, chosen: np.ndarray) -> Table:
        """The rows that are chosen, (R,) bool."""
        parts = {label: column[chosen] for label, column in self.parts.items()}
        rest = {name: column[chosen] for name, column in vars(self).items() if name != "parts"}
        return Table(**rest, parts=parts)

    def differing(self) -> list[int]:
        """Prompts of which two raw scores differ, in the order of the plan: those that can teach anything."""
        known, prompts = ~np.isnan(self.raw), np.unique(self.prompt)
        groups = [self.raw[known & (self.prompt == prompt)] for prompt in prompts]
        return [int(prompt) for prompt, raw in zip(prompts, groups, strict=True) if len(raw) and np.ptp(raw) > 0]

    def place(self) -> dict[tuple[int, int], int]:
        """Where a response is, by its key."""
        return {(int(p), int(s)): i for i, (p, s) in enumerate(zip(self.prompt, self.sample, strict=True))}


def mean(values: np.ndarray) -> Sum:
    """Of those that are known."""
    known = values[~np.isnan(values)]
    return Sum(Mean, math.fsum(known), float(len(known)))


def reward_sums(table: Table) -> dict[str, Sum]:
    """Metrics of all responses of a step."""
    scores = table.score[~np.isnan(table.score)]
    return {
        "reward/mean": mean(table.score),
        "reward/std": Sum(Mean, float(scores.std(ddof=1)) if len(scores) > 1 else math.nan, 1.0),
        "reward/unscorable_fraction": mean(np.isnan(table.score).astype(float)),
        **{f"rewards/{label}": mean(values) for label, values in table.parts.items()},
        **response_sums(table),
    }


def response_sums(table: Table) -> dict[str, Sum]:
    """Metrics of all responses of a step that need no judge."""
    tokens = table.tokens if len(table.tokens) else np.array([math.nan])
    return {
        "response/tokens_mean": mean(table.tokens),
        "response/tokens_min": Sum(Min, float(tokens.min()), 1.0),
        "response/tokens_max": Sum(Max, float(tokens.max()), 1.0),
        "response/truncated_fraction": mean(table.truncated.astype(float)),
        **{f"stop/{reason}": mean((table.stop == place).astype(float)) for place, reason in enumerate(STOPS)},
    }


def as_metrics(sums: dict[str, Sum]) -> StepMetrics:
    """Sums that every rank has already, as they join a step's record."""
    return StepMetrics(0.0, sums, [])


def shown(responses: Sequence[Response]) -> list[dict[str, Any]]:
    """The table that goes to the run folder: prompt, response, parts, advantage, stop reason."""
    return [
        {
            "prompt": (one.sample.row or {}).get("prompt", one.sample.prompt_ids),
            "response": one.sample.text,
            "score": one.score,
            "parts": one.parts,
            "advantage": one.advantage,
            "stop_reason": one.sample.stop_reason,
            "tokens": one.length,
        }
        for one in responses
    ]
