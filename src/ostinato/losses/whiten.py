"""Mean 0 and deviation 1 over all trained tokens of a rollout, whichever ranks hold them."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-8


class Moments(NamedTuple):
    """Scalars, fp64: how many numbers, their mean, and the sum of their squared distances from it."""

    numbers: Tensor
    mean: Tensor
    squares: Tensor

    @property
    def variance(self) -> Tensor:
        """With N - 1; 0 of fewer than two numbers."""
        return self.squares / (self.numbers - 1).clamp(min=1)


def moments(values: Tensor) -> Moments:
    """Of (N,), N may be 0. `torch.stack(moments(x))` is what a rank sends to the others."""
    wide = values.detach().double()
    count = torch.full_like(wide.sum(), values.numel())
    mean = wide.sum() / count.clamp(min=1)
    return Moments(count, mean, (wide - mean).square().sum())


def merge(parts: Iterable[Moments]) -> Moments:
    """Those of all parts together, added up in their order (Chan, Golub, LeVeque 1979)."""
    first, *others = parts
    for other in others:
        count = first.numbers + other.numbers
        share, distance = other.numbers / count.clamp(min=1), other.mean - first.mean
        squares = first.squares + other.squares + distance.square() * first.numbers * share
        first = Moments(count, first.mean + distance * share, squares)
    return first


def whiten(values: Tensor, mean: Tensor, variance: Tensor, *, shift: bool = True) -> Tensor:
    """(values - mean) / sqrt(variance + 1e-8); (N,) -> (N,). `shift` False: the mean is added back."""
    whitened = (values.double() - mean) * (variance + EPSILON).rsqrt()
    return (whitened if shift else whitened + mean).to(values.dtype)
