"""Rotary position embeddings (Su et al. 2021, arXiv:2104.09864) and the ways of stretching them.

Tables are fp32, made on first use for a device and a length, and never part of a model's state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

RopeScaling = Literal["none", "linear", "dynamic", "yarn", "llama3"]


@dataclass(frozen=True)
class RopeOptions:
    """The facts that fix the angles. `original_length`: the context before stretching."""

    base: float = 10000.0
    scaling: RopeScaling = "none"
    factor: float = 1.0
    original_length: int = 2048
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None


def frequencies(width: int, options: RopeOptions, length: int) -> Tensor:
    """Angle per position of each pair of a head of `width`: (width / 2,) fp32. Only `dynamic` looks at `length`."""
    base = options.base
    if options.scaling == "dynamic":  # NTK-aware: the base grows with a text beyond the context
        stretch = options.factor * max(length, options.original_length) / options.original_length
        base = base * (stretch - (options.factor - 1)) ** (width / (width - 2))
    plain = 1.0 / (base ** (torch.arange(0, width, 2, dtype=torch.int64).float() / width))
    if options.scaling == "linear":
        return plain / options.factor
    if options.scaling == "llama3":
        return _llama3(plain, options)
    if options.scaling == "yarn":
        return _yarn(plain, width, options)
    return plain


def _llama3(plain: Tensor, options: RopeOptions) -> Tensor:
    """Short waves as they are, long ones stretched, a ramp between (Llama 3.1)."""
    waves = 2 * math.pi / plain
    low, high = options.low_frequency_factor, options.high_frequency_factor
    ramp = (options.original_length / waves - low) / (high - low)
    blended = (1 - ramp) * plain / options.factor + ramp * plain
    stretched = torch.where(waves > options.original_length / low, plain / options.factor, blended)
    return torch.where(waves < options.original_length / high, plain, stretched)


def _yarn(plain: Tensor, width: int, options: RopeOptions) -> Tensor:
    """Interpolate the dimensions that turn seldom, leave those that turn often (arXiv:2309.00071, section 3.2)."""

    def dimension(turns: float) -> float:
        return width * math.log(options.original_length / (turns * 2 * math.pi)) / (2 * math.log(options.base))

    low = max(math.floor(dimension(options.beta_fast)), 0)
    high = min(math.ceil(dimension(options.beta_slow)), width - 1)
    ramp = ((torch.arange(width // 2, dtype=torch.float32) - low) / max(high - low, 0.001)).clamp(0, 1)
    return plain / options.factor * ramp + plain * (1 - ramp)


def magnitude(options: RopeOptions) -> float:
    """Factor on sine and cosine: YaRN's temperature (arXiv:2309.00071, equation 22), else 1."""
    if options.scaling != "yarn":
        return 1.0
    if options.attention_factor is not None:
        return options.attention_factor
    return 0.1 * math.log(options.factor) + 1.0 if options.factor > 1 else 1.0


class RopeTables:
    """Cosine and sine by position, (length, width / 2) fp32 each. No buffer: nothing to lose on `meta`."""

    def __init__(self, width: int, options: RopeOptions) -> None:
        if width % 2:
            raise ValueError(f"RoPE turns pairs: the width of a head must be even, not {width}")
        self.width, self.options = width, options
        self._tables: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> RopeTables:
        return RopeTables(self.width, self.options)

    def rows(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Tables of positions 0 .. length - 1."""
        if self.options.scaling == "dynamic" and length > self.options.original_length:
            return self._compute(length, device, length)  # the angles depend on the length itself: nothing to keep
        table = self._tables.get(device)
        if table is None or len(table[0]) < length:
            table = self._tables[device] = self._compute(max(64, 1 << (length - 1).bit_length()), device, length)
        return table[0][:length], table[1][:length]

    def _compute(self, length: int, device: torch.device, text: int) -> tuple[Tensor, Tensor]:
        # float64 products would differ from every other implementation in the last bits of far positions
        with torch.device("cpu"), torch.inference_mode(False), torch.no_grad():
            angles = torch.outer(torch.arange(length).float(), frequencies(self.width, self.options, text))
            factor = magnitude(self.options)
            return (angles.cos() * factor).to(device), (angles.sin() * factor).to(device)


def rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn `heads` (B, T, H, width) by `cosine`, `sine` (T or B x T, 1, width / 2), in fp32; the dtype stays."""
    if torch.compiler.is_compiling() or heads.dtype != torch.float32:
        first, second = heads.chunk(2, dim=-1)
        turned = torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
        return turned.to(heads.dtype)
    return _Rotate.apply(heads, cosine, sine)


class _Rotate(torch.autograd.Function):
    """The same; the backward pass turns the other way."""

    @staticmethod
    def forward(context: Any, heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        context.save_for_backward(cosine, sine)
        return turn(heads, cosine, sine, -1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = context.saved_tensors
        return turn(gradient, cosine, sine, 1), None, None


def turn(heads: Tensor, cosine: Tensor, sine: Tensor, sign: int) -> Tensor:
    """`heads` turned forwards (`sign` -1) or back (1), in four passes and one buffer."""
    turned = torch.empty(heads.shape, dtype=heads.dtype, device=heads.device)
    first, second = heads.chunk(2, dim=-1)
    left, right = turned.chunk(2, dim=-1)
    torch.mul(first, cosine, out=left)
    left.addcmul_(second, sine, value=sign)
    torch.mul(second, cosine, out=right)
    right.addcmul_(first, sine, value=-sign)
    return turned
