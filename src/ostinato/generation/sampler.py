"""One token from logits: penalties, filters, and a draw that depends on its own key and position alone.

B sequences, V vocabulary. All functions treat each row by itself, so a row's token never depends on its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ostinato.core.errors import UserError

GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
SECOND = 0x94D049BB133111EB - (1 << 64)


@dataclass(frozen=True)
class SamplingParams:
    """How to sample. `temperature` 0 is greedy; `n` samples per prompt; filters apply in the order of `filtered`."""

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    n: int = 1
    seed: int = 0

    @staticmethod
    def of(section: Any, *, seed: int, n: int = 1) -> SamplingParams:
        """From the `generation` section of a config."""
        names = ("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        return SamplingParams(**{k: getattr(section, k) for k in names}, stop=tuple(section.stop), n=n, seed=seed)

    def __post_init__(self) -> None:
        rules = (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "at least 1"),
            ("top_p", 0 < self.top_p <= 1, "above 0, at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("n", self.n >= 1, "at least 1"),
        )
        for name, fine, rule in rules:
            if not fine:
                raise UserError(f"generation.{name}: {getattr(self, name)} is not {rule}.")


def uniform(keys: Tensor, positions: Tensor) -> Tensor:
    """Numbers in [0, 1), (B,) float64, from keys and token positions (B,) int64: splitmix64, positions its counter.

    Integer arithmetic that wraps, so the same bits on every device and in every batch.
    """
    z = keys + (positions + 1) * GAMMA
    z = (z ^ logical_shift(z, 30)) * FIRST
    z = (z ^ logical_shift(z, 27)) * SECOND
    z = z ^ logical_shift(z, 31)
    return logical_shift(z, 11).double() * 2.0**-53


def logical_shift(z: Tensor, by: int) -> Tensor:
    """Right shift that brings in zeros; torch's own copies the sign."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits of tokens that occurred (`seen`, (B, V) bool) divided by `penalty` if positive, else multiplied (CTRL)."""
    if penalty == 1.0:
        return logits
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def filtered(probabilities: Tensor, params: SamplingParams) -> Tensor:
    """Probabilities (B, V) with everything zeroed that top_k, then top_p, then min_p leaves out; one always survives.

    top_p keeps the smallest set whose mass reaches it, the crossing token included, of what top_k left. Ties go to the
    lower id.
    """
    p = probabilities
    if params.top_k is None and params.top_p == 1.0 and params.min_p == 0.0:
        return p
    ordered, ids = p.sort(dim=-1, descending=True, stable=True)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    if params.top_k is not None:
        keep[:, params.top_k :] = False
    if params.top_p < 1.0:
        mass = torch.where(keep, ordered, 0.0)
        mass = mass / mass.sum(-1, keepdim=True)
        keep &= mass.cumsum(-1) - mass < params.top_p
    keep &= ordered >= params.min_p * ordered[:, :1]
    keep[:, 0] = True
    return torch.zeros_like(p).scatter(-1, ids, torch.where(keep, ordered, 0.0))


def sample(
    logits: Tensor, seen: Tensor, keys: Tensor, positions: Tensor, params: SamplingParams
) -> tuple[Tensor, Tensor]:
    """The next token of each row, (B,) int64, and its log-prob under softmax(logits / temperature), (B,) fp32.

    The log-prob is that of the model: before penalty and filters; temperature 0 counts as 1 there.
    """
    temperature = params.temperature or 1.0
    log_probs = (logits.float() / temperature).log_softmax(-1)
    scores = penalised(logits.float(), seen, params.repetition_penalty)
    if params.temperature == 0:
        tokens = scores.argmax(-1)
    else:
        kept = filtered((scores.double() / temperature).softmax(-1), params)
        cumulative = kept.cumsum(-1)
        threshold = uniform(keys, positions) * cumulative[:, -1]
        tokens = (cumulative <= threshold[:, None]).sum(-1)
        last = kept.shape[-1] - 1 - (kept > 0).flip(-1).int().argmax(-1)  # rounding never passes the last one kept
        tokens = torch.minimum(tokens, last)
    return tokens, log_probs.gather(-1, tokens[:, None])[:, 0]
