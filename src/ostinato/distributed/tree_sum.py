"""The same sum, however spread: gradients of a step's micro-batches added along one fixed binary tree.

Leaves are the gradients of micro-batches 0 .. M-1, those that are missing to a multiple of W exact zeros; rank r of W
holds m = a W + r in round a. Neighbours are added, then pairs of pairs, first across the ranks of a round, then across
rounds by a binary counter. Both together are one tree over 0 .. M-1, the same for every power of two W.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Counter:
    """Sums of equal numbers of leaves, the older ones first: what a binary counter holds."""

    def __init__(self) -> None:
        self.sums: list[tuple[int, Tensor]] = []

    def push(self, value: Tensor) -> None:
        """One more leaf, or one more sum of as many leaves as each before it."""
        size = 1
        while self.sums and self.sums[-1][0] == size:
            value = self.sums.pop()[1] + value
            size *= 2
        self.sums.append((size, value))

    def total(self) -> Tensor:
        """The sum of all, which it forgets. An added zero turns -0.0 into +0.0, so all are."""
        _, value = self.sums.pop()
        while self.sums:
            value = self.sums.pop()[1] + value
        return value + 0.0


class TreeSum:
    """Takes the gradients of some parameters after each micro-batch, and puts back their sum after the last.

    A rank adds up one of W parts of the flat gradient: no backend does arithmetic, and each byte is sent once.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], world_size: int = 1) -> None:
        self.parameters, self.world_size = list(parameters), world_size
        self.counter = Counter()

    def add(self, *, last: bool) -> None:
        """Take what the backward pass of one micro-batch left in `.grad`."""
        leaf = torch.cat([self._gradient(parameter) for parameter in self.parameters])
        self.counter.push(self._exchanged(leaf) if self.world_size > 1 else leaf)
        if not last:
            return
        parts = self._gathered(self.counter.total()).split([p.numel() for p in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    @staticmethod
    def _gradient(parameter: nn.Parameter) -> Tensor:
        found, parameter.grad = parameter.grad, None
        return torch.zeros_like(parameter).flatten() if found is None else found.flatten()

    def _exchanged(self, leaf: Tensor) -> Tensor:
        """This rank's part of the sum of the ranks' leaves."""
        padded = nn.functional.pad(leaf, (0, -len(leaf) % self.world_size))
        parts = torch.empty_like(padded)
        dist.all_to_all_single(parts, padded)
        rows = parts.view(self.world_size, -1)
        while len(rows) > 1:
            rows = rows[0::2] + rows[1::2]
        return rows[0]

    def _gathered(self, part: Tensor) -> Tensor:
        """The whole sum, from every rank's part of it."""
        length = sum(parameter.numel() for parameter in self.parameters)
        if self.world_size == 1:
            return part
        whole = part.new_empty(self.world_size * len(part))
        dist.all_gather_into_tensor(whole, part)
        return whole[:length]
