"""Frozen weights in four bits (NF4, arXiv:2305.14314), unpacked for each product. Wants the package torchao."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ostinato.core.errors import UserError

BLOCK, SCALES = 64, 256  # elements that share a scale, scales that are quantized together


def nf4(weight: Tensor) -> nn.Parameter:
    """The weight as torchao's NF4 tensor, which unpacks to the weight's dtype. Raises UserError without torchao."""
    try:
        from torchao.quantization import NF4Tensor  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise UserError(f"model.adapter.base_dtype: nf4 wants torchao: pip install torchao ({error}).") from None
    if weight.numel() % BLOCK:
        raise UserError(f"model.adapter.base_dtype: nf4 wants multiples of {BLOCK} weights; one has {weight.numel()}.")
    scales = math.gcd(weight.numel() // BLOCK, SCALES)
    return nn.Parameter(NF4Tensor.from_tensor(weight.detach(), BLOCK, scales), requires_grad=False)


def is_quantized(weight: Tensor) -> bool:
    return hasattr(weight, "get_original_weight")


class FrozenProduct(torch.autograd.Function):
    """x W': W is unpacked again in the backward pass, so that only its four bits are kept. It takes no gradient."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor) -> Tensor:
        context.weight = weight
        return F.linear(x, weight.to(x.dtype))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ context.weight.to(gradient.dtype), None


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W' + bias, whatever W is kept in."""
    if not is_quantized(weight):
        return F.linear(x, weight, bias)
    y = FrozenProduct.apply(x, weight)
    return y if bias is None else y + bias
