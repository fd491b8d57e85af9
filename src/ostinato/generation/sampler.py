"""One token from logits: a draw that depends on its own row, key and position alone.

W rows (slots), V vocabulary, C candidates. No function mixes rows. Probabilities are added up as integers, so that a
sum has the same bits in whatever order a device adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ostinato.core.errors import UserError
from ostinato.generation.filters import UNIT, candidates, penalised, ranked

GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
SECOND = 0x94D049BB133111EB - (1 << 64)
BLOCK = 64  # neighbours in the vocabulary whose probabilities are added up first


@dataclass(frozen=True)
class SamplingParams:
    """How to sample. `temperature` 0 is greedy; `n` samples per prompt; `logprobs` alternatives at each position.

    The order is repetition penalty, temperature, top_k, top_p, min_p.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    n: int = 1
    seed: int = 0
    logprobs: int = 0

    @staticmethod
    def of(section: Any, *, seed: int, n: int = 1) -> SamplingParams:
        """From the `generation` section of a config."""
        names = ("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        return SamplingParams(**{k: getattr(section, k) for k in names}, stop=tuple(section.stop), n=n, seed=seed)

    def __post_init__(self) -> None:
        rules = (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < float("inf"), "0 or more"),
            ("top_k", self.top_k is None or self.top_k >= 1, "at least 1"),
            ("top_p", 0 < self.top_p <= 1, "above 0, at most 1"),
            ("min_p", 0 <= self.min_p <= 1, "from 0 to 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("stop", all(self.stop), "a list of texts that are not empty"),
            ("n", self.n >= 1, "at least 1"),
            ("logprobs", 0 <= self.logprobs <= 20, "from 0 to 20"),
        )
        for name, fine, rule in rules:
            if not fine:
                raise UserError(f"generation.{name}: {getattr(self, name)} is not {rule}.")


class Drawn(NamedTuple):
    """The next token of each row (W,) int64, and its log-prob (W,) fp32 under softmax(logits / temperature)."""

    tokens: Tensor
    log_probs: Tensor
    top: tuple[Tensor, Tensor] | None
    """The likeliest ids (W, logprobs) and their log-probs, where asked for."""


def uniform(keys: Tensor, positions: Tensor) -> Tensor:
    """Numbers in [0, 1), float64, from keys and token positions (int64): 52 bits of splitmix64, positions its counter.

    Integer arithmetic that wraps, so the same bits on every device and in every batch.
    """
    z = keys + (positions + 1) * GAMMA
    z = (z ^ logical_shift(z, 30)) * FIRST
    z = (z ^ logical_shift(z, 27)) * SECOND
    z = z ^ logical_shift(z, 31)
    return logical_shift(z, 12).double() * 2.0**-52


def logical_shift(z: Tensor, by: int) -> Tensor:
    """Right shift that brings in zeros; torch's own copies the sign."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def sample(logits: Tensor, seen: Tensor | None, draws: Tensor, params: SamplingParams) -> Drawn:
    """The next token of each row of `logits` (W, V) fp32, by the number in [0, 1) in `draws` (W,) float64.

    `seen` (W, V) bool: what occurred, needed for a repetition penalty only. Log-probs are the model's own: before
    penalty and filters; temperature 0 counts as 1 there.
    """
    temperature = params.temperature or 1.0
    z = logits if temperature == 1.0 else logits / temperature
    probabilities, scores = z.softmax(-1), z
    if seen is not None:
        scores = penalised(logits, seen, params.repetition_penalty) / temperature
    if params.temperature == 0:
        tokens = first_maximum(scores)
    elif params.top_k is not None or params.top_p < 1.0:
        ids, kept = candidates(scores, params.top_k, params.top_p, params.min_p)
        tokens = ids.gather(1, pick(kept, draws)[:, None])[:, 0]
    else:
        p = probabilities if seen is None else scores.softmax(-1)
        if params.min_p > 0:
            p = torch.where(p >= params.min_p * p.amax(-1, keepdim=True), p, 0.0)
        tokens = pick(p, draws)
    if seen is None:  # then what was drawn is likely enough for its logarithm
        log_probs = probabilities.gather(1, tokens[:, None])[:, 0].log()
    else:
        log_probs = z.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
    top = None
    if params.logprobs:
        ids = ranked(z, min(params.logprobs, z.shape[-1]))
        top = ids, z.log_softmax(-1).gather(1, ids)
    return Drawn(tokens, log_probs, top)


def pick(p: Tensor, draws: Tensor) -> Tensor:
    """The index where the sum of `p` (W, C) up to and including it first exceeds draw x total, (W,) int64.

    Probabilities add up to 1 or, where filters left some out, less. Sums of blocks come first, then those within the
    block. What has no probability is never picked.
    """
    blocks = _in_blocks(p, 0.0)  # (W, C / BLOCK, BLOCK)
    # how a GPU adds floats depends on the number of rows
    masses = _integers(blocks).sum(-1) if p.is_cuda else _integers(blocks.sum(-1))
    edges = masses.cumsum(-1)
    target = (draws * edges[:, -1]).long()[:, None]
    block = torch.searchsorted(edges, target, right=True).clamp_(max=edges.shape[1] - 1)  # it is beyond for NaN alone
    within = target - (edges - masses).gather(1, block)
    own = blocks.gather(1, block[..., None].expand(-1, -1, blocks.shape[2]))[:, 0]  # (W, BLOCK)
    inner = _integers(own).cumsum(-1)
    within = torch.minimum(within, inner[:, -1:] - 1)  # the block's own sum was rounded
    index = torch.searchsorted(inner, within, right=True).add_(block * blocks.shape[2])[:, 0]
    return index.clamp_(max=p.shape[-1] - 1)


def first_maximum(scores: Tensor) -> Tensor:
    """The lowest index of each row's maximum, (W,) int64; torch's own argmax over a long row is ten times slower."""
    blocks = _in_blocks(scores, -torch.inf)
    block = blocks.amax(-1).argmax(-1, keepdim=True)
    own = blocks.gather(1, block[..., None].expand(-1, -1, blocks.shape[2]))[:, 0]
    return block[:, 0] * blocks.shape[2] + own.argmax(-1)


def _integers(p: Tensor) -> Tensor:
    return p.double().mul_(UNIT).long()


def _in_blocks(x: Tensor, fill: float) -> Tensor:
    missing = -x.shape[-1] % BLOCK
    return (F.pad(x, (0, missing), value=fill) if missing else x).unflatten(-1, (-1, BLOCK))
