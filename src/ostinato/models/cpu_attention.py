"""Causal attention over short documents on the CPU: products and softmax written out, in blocks of queries.

torch's fused CPU kernel is made for long sequences; on documents of up to some hundred tokens this takes about half its
time forward and backward, and computes nothing between documents nor, but for the diagonal blocks, after the query.
N tokens of all rows, H heads, G key-value heads; a run is n neighbouring documents of one length L.
"""

from __future__ import annotations

from collections.abc import Iterator
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
def penalty(window: int | None, dtype: torch.dtype) -> Tensor:
    """What to add to scores: -inf where the key is later or out of the window. Query a is at column a + window."""
    back = window or 0
    behind = torch.arange(BLOCK)[:, None] + back - torch.arange(BLOCK + back)
    seen = (behind >= 0) & (behind < window) if window is not None else behind >= 0
    return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -torch.inf)


def heads_first(tokens: Tensor, run: Run, groups: int) -> Tensor:
    """(N, heads, width) -> the run's (n, G, heads / G, L, width), a view."""
    shape = (run.count, run.length, groups, tokens.shape[1] // groups, tokens.shape[2])
    return tokens[run.tokens].view(shape).permute(0, 2, 3, 1, 4)


def flat(view: Tensor) -> Tensor:
    """(n, G, heads / G, L, width) -> (n G, heads / G L, width) the heads of a group share keys and values."""
    return view.reshape(view.shape[0] * view.shape[1], -1, view.shape[4])


class CausalAttention(torch.autograd.Function):
    """query (N, H, width), key and value (N, G, width), runs -> (N, H, width); tokens outside all runs give 0."""

    @staticmethod
    def forward(
        context: Any, query: Tensor, key: Tensor, value: Tensor, runs: tuple[Run, ...], window: int | None
    ) -> Tensor:
        groups, scale = key.shape[1], query.shape[2] ** -0.5
        covered = sum(run.count * run.length for run in runs) == len(query)
        mixed = (torch.empty if covered else torch.zeros)(query.shape, dtype=query.dtype)
        kept: list[Tensor] = []
        for run in runs:
            queries, out = heads_first(query, run, groups), heads_first(mixed, run, groups)
            keys, values = flat(heads_first(key, run, groups)), flat(heads_first(value, run, groups))
            kept += (keys, values)
            narrow = window if window is not None and window < run.length else None
            mask = penalty(narrow, query.dtype)
            for low, first, end in blocks(run.length, narrow):
                block = flat(queries[:, :, :, first:end]).mul(scale)
                scores = torch.bmm(block, keys[:, low:end].transpose(1, 2))
                diagonal = first if narrow is None else low
                left = 0 if narrow is None else narrow - (first - low)
                part = mask[: end - first, left : left + end - diagonal]
                scores.view(len(scores), -1, end - first, end - low)[..., diagonal - low :].add_(part)
                shares = torch.softmax(scores, dim=-1)
                result = torch.bmm(shares, values[:, low:end])
                out[:, :, :, first:end].copy_(result.view(out[:, :, :, first:end].shape))
                kept += (block, shares)
        context.save_for_backward(*kept)
        context.runs, context.window, context.groups, context.heads = runs, window, groups, query.shape[1]
        context.covered = covered
        return mixed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        groups, width = context.groups, gradient.shape[2]
        scale = width**-0.5
        kept = iter(context.saved_tensors)
        make = torch.empty if context.covered else torch.zeros
        d_query = make(gradient.shape, dtype=gradient.dtype)
        d_key, d_value = (make((len(gradient), groups, width), dtype=gradient.dtype) for _ in range(2))
        for run in context.runs:
            keys, values = next(kept), next(kept)
            incoming, outgoing = (heads_first(x, run, groups) for x in (gradient, d_query))
            narrow = context.window if context.window is not None and context.window < run.length else None
            sums: tuple[Tensor, Tensor] | None = None if narrow is None else (keys * 0, values * 0)
            for low, first, end in blocks(run.length, narrow):
                block, shares = next(kept), next(kept)
                upstream = flat(incoming[:, :, :, first:end])
                d_shares = torch.bmm(upstream, values[:, low:end].transpose(1, 2))
                d_scores = torch._softmax_backward_data(d_shares, shares, -1, shares.dtype)
                if sums is None:  # the last block sees all keys and comes first
                    sums = torch.bmm(d_scores.transpose(1, 2), block), torch.bmm(shares.transpose(1, 2), upstream)
                else:
                    sums[0][:, low:end].baddbmm_(d_scores.transpose(1, 2), block)
                    sums[1][:, low:end].baddbmm_(shares.transpose(1, 2), upstream)
                result = torch.bmm(d_scores, keys[:, low:end])
                part = outgoing[:, :, :, first:end]
                torch.mul(result.view(part.shape), scale, out=part)
            assert sums is not None
            for total, goal in zip(sums, (d_key, d_value), strict=True):
                view = heads_first(goal, run, groups)
                view.copy_(total.view(view.shape))
        return d_query, d_key, d_value, None, None
