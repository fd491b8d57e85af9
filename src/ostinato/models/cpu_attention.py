"""Causal attention over short documents on the CPU: products and softmax written out, in blocks of queries.

torch's fused CPU kernel is made for long sequences; on documents of up to some hundred tokens this takes about half its
time forward and backward, and computes nothing between documents nor, but for the diagonal blocks, after the query.
N tokens of all rows, H heads, G key-value heads; a run is n neighbouring documents of one length L <= LONGEST.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

BLOCK = 128  # queries computed together
LONGEST = 512  # beyond, keeping the shares of attention costs more memory than the fused kernel's time is worth


@dataclass(frozen=True)
class Run:
    """`count` documents of `length` tokens each, from token `start` on."""

    start: int
    count: int
    length: int

    @property
    def tokens(self) -> slice:
        return slice(self.start, self.start + self.count * self.length)


def blocks(length: int, window: int | None) -> Iterator[tuple[int, int, int]]:
    """(first key, first query, end of both) of each block, the last block first: it alone may see all keys."""
    for first in reversed(range(0, length, BLOCK)):
        yield (0 if window is None else max(0, first - window + 1)), first, min(first + BLOCK, length)


@lru_cache(maxsize=8)
def penalty(window: int | None, repeat: int, dtype: torch.dtype) -> Tensor:
    """What is added to scores, (BLOCK repeat, LONGEST): -inf where the key is later or out of the window, else 0.

    Aligned at the right: the first query of a block stands at column LONGEST - BLOCK. Each query is there `repeat`
    times, for the heads that share its keys.
    """
    behind = torch.arange(BLOCK)[:, None] + (LONGEST - BLOCK) - torch.arange(LONGEST)
    seen = (behind >= 0) & (behind < (window or LONGEST + 1))
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -torch.inf).repeat_interleave(repeat, dim=0)


def by_group(tokens: Tensor, run: Run, groups: int) -> Tensor:
    """(N, heads, width) -> the run's (n, G, L heads / G, width), copied unless it lies so already."""
    return _view(tokens, run, groups).reshape(run.count * groups, -1, tokens.shape[2])


def _view(tokens: Tensor, run: Run, groups: int) -> Tensor:
    shape = (run.count, run.length, groups, tokens.shape[1] // groups, tokens.shape[2])
    return tokens[run.tokens].view(shape).transpose(1, 2)


class CausalAttention(torch.autograd.Function):
    """query (N, H, width), key and value (N, G, width), runs -> (N, H, width); tokens outside all runs give 0."""

    @staticmethod
    def forward(
        context: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        runs: tuple[Run, ...],
        window: int | None,
        scale: float | None,
    ) -> Tensor:
        mixed, kept = attention_forward(query, key, value, runs, window, scale)
        context.save_for_backward(*kept)
        context.facts = runs, window, key.shape[1], scale
        return mixed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *attention_backward(gradient, context.saved_tensors, *context.facts), None, None, None


def attention_forward(
    query: Tensor, key: Tensor, value: Tensor, runs: tuple[Run, ...], window: int | None, scale: float | None
) -> tuple[Tensor, list[Tensor]]:
    """The attention of each token and what its backward pass needs. `scale` of scores, None: width ** -0.5."""
    groups = key.shape[1]
    repeat, scale = query.shape[1] // groups, query.shape[2] ** -0.5 if scale is None else scale
    mask = penalty(window, repeat, query.dtype)
    mixed = _like(query, runs)
    kept: list[Tensor] = []
    for run in runs:
        q, k, v = (by_group(x, run, groups) for x in (query, key, value))
        kept += (q, k, v)
        results = []
        for low, first, end in blocks(run.length, window):
            left = LONGEST - BLOCK - (first - low)
            part = mask[: (end - first) * repeat, left : left + end - low]
            queries, keys = q[:, first * repeat : end * repeat], k[:, low:end].transpose(1, 2)
            shares = torch.baddbmm(part, queries, keys, alpha=scale).softmax(dim=-1)
            results.append(torch.bmm(shares, v[:, low:end]))
            kept.append(shares)
        _put(results, mixed, run, groups)
    return mixed, kept


def attention_backward(
    gradient: Tensor,
    saved: Sequence[Tensor],
    runs: tuple[Run, ...],
    window: int | None,
    groups: int,
    scale: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value."""
    repeat, scale = gradient.shape[1] // groups, gradient.shape[2] ** -0.5 if scale is None else scale
    kept = iter(saved)
    d_query = _like(gradient, runs)
    d_key, d_value = (_like(gradient[:, :groups], runs) for _ in range(2))
    for run in runs:
        q, k, v = next(kept), next(kept), next(kept)
        upstream = by_group(gradient, run, groups)
        results: list[Tensor] = []
        d_k = d_v = None
        for low, first, end in blocks(run.length, window):
            shares, rows = next(kept), slice(first * repeat, end * repeat)
            d_shares = torch.bmm(upstream[:, rows], v[:, low:end].transpose(1, 2))
            d_scores = torch._softmax_backward_data(d_shares, shares, -1, shares.dtype)
            results.append(torch.bmm(d_scores, k[:, low:end]))
            pairs = ((d_scores.transpose(1, 2), q[:, rows]), (shares.transpose(1, 2), upstream[:, rows]))
            if d_k is None or d_v is None:
                d_k, d_v = (torch.bmm(*pair) for pair in pairs)
                if low:  # a window: earlier blocks see other keys
                    d_k, d_v = (torch.cat((x.new_zeros(len(x), low, x.shape[2]), x), dim=1) for x in (d_k, d_v))
            else:
                for total, pair in zip((d_k, d_v), pairs, strict=True):
                    total[:, low:end].baddbmm_(*pair)
        assert d_k is not None and d_v is not None
        _put(results, d_query, run, groups, scale)
        _put([d_k], d_key, run, groups, scale)
        _put([d_v], d_value, run, groups)
    return d_query, d_key, d_value


def _like(tokens: Tensor, runs: tuple[Run, ...]) -> Tensor:
    """Room for a value of every token: zeros if some are in no run."""
    covered = sum(run.count * run.length for run in runs) == len(tokens)
    return (torch.empty if covered else torch.zeros)(tokens.shape, dtype=tokens.dtype)


def _put(results: list[Tensor], tokens: Tensor, run: Run, groups: int, factor: float | None = None) -> None:
    """The reverse of `by_group`, times `factor`, for blocks from the last to the first."""
    result = results[0] if len(results) == 1 else torch.cat(results[::-1], dim=1)
    goal = _view(tokens, run, groups)
    if factor is None:
        goal.copy_(result.view(goal.shape))
    else:
        torch.mul(result.view(goal.shape), factor, out=goal)
