"""A tensor that is to be written: name, shape and type are known, its numbers are read when its file's turn comes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class PlannedTensor:
    """`read()` gives the numbers, in any type; they are rounded to `dtype`."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]

    @staticmethod
    def of(tensor: Tensor) -> PlannedTensor:
        """A tensor that is in memory, or mapped from a file."""
        return PlannedTensor(tuple(tensor.shape), tensor.dtype, lambda: tensor)

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return math.prod(self.shape) * self.dtype.itemsize

    def to(self, dtype: torch.dtype | None) -> PlannedTensor:
        """In another type; integers stay."""
        return self if dtype is None or not self.dtype.is_floating_point else replace(self, dtype=dtype)

    def tensor(self) -> Tensor:
        """The numbers, as they are written."""
        return self.read().detach().to("cpu", self.dtype)
