"""Rotary position embeddings (Su et al. 2021, arXiv:2104.09864) and the ways of stretching them.

Tables are fp32, made on first use for a device and a length, and never part of a model's state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

RopeScaling = Literal["none", "linear", "dynamic", "yarn", "llama3", "longrope"]


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
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()

    @property
    def by_length(self) -> bool:
        """Whether angles change with the length of a text, once it is longer than `original_length`."""
        return self.scaling in ("dynamic", "longrope")


def frequencies(width: int, options: RopeOptions, length: int) -> Tensor:
    """Angle per position of each pair of a head of `width`: (width / 2,) fp32.

    `length` of the text; only `dynamic` and `longrope` look at it.
    """
    base = options.base
    if options.scaling == "dynamic":  # NTK-aware: the base grows with a text beyond the context
        stretch = options.factor * max(length, options.original_length) / options.original_length
        base = base * (stretch - (options.factor - 1)) ** (width / (width - 2))
    if options.scaling == "longrope":  # a divisor for each pair, one set for texts that fit and one for longer ones
        factors = options.long_factors if length > options.original_length else options.short_factors
        waves = base ** (torch.arange(0, width, 2, dtype=torch.int64).float() / width)
        return 1.0 / (torch.tensor(factors, dtype=torch.float32) * waves)
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
    """Factor on sine and cosine: YaRN's temperature (arXiv:2309.00071, equation 22) or LongRoPE's (arXiv:2402.13753,
    section 3.3, `factor` being the stretched length over the original one), else 1."""
    if options.scaling not in ("yarn", "longrope"):
        return 1.0
    if options.attention_factor is not None:
        return options.attention_factor
    if options.factor <= 1:
        return 1.0
    if options.scaling == "longrope":
        return math.sqrt(1 + math.log(options.factor) / math.log(options.original_length))
    return 0.1 * math.log(options.factor) + 1.0


def text_lengths(positions: Tensor, documents: Tensor | None) -> Tensor:
    """Of each token (B, T), how long its text is: by the last position of its document, or of its row without them."""
    if documents is None:
        return (positions.amax(1, keepdim=True) + 1).expand_as(positions)
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    number = starts.flatten().cumsum(0) - 1
    last = torch.zeros_like(number).scatter_reduce(0, number, positions.flatten(), "amax")
    return (last[number] + 1).view_as(positions)


class RopeTables:
    """Cosine and sine by position, (length, width / 2) fp32 each. No buffer: nothing to lose on `meta`."""

    def __init__(self, width: int, options: RopeOptions) -> None:
        if width % 2 or width < 2:
            raise ValueError(f"RoPE turns pairs: the width of a head that turns must be even, not {width}")
        if options.scaling == "longrope":
            for name in ("short", "long"):
                count = len(getattr(options, f"{name}_factors"))
                if count != width // 2:
                    raise ValueError(f"rope_{name}_factors: {count} numbers, a head has {width // 2} pairs that turn")
        self.width, self.options = width, options
        self._tables: dict[tuple[torch.device, bool], tuple[Tensor, Tensor]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> RopeTables:
        return RopeTables(self.width, self.options)

    def rows(self, length: int, device: torch.device, text: int | None = None) -> tuple[Tensor, Tensor]:
        """Tables of positions 0 .. length - 1 in a text of `text` tokens, None: of `length`."""
        text = length if text is None else text
        beyond = self.options.by_length and text > self.options.original_length
        if beyond and self.options.scaling == "dynamic":
            return self._compute(length, device, text)  # the angles depend on the length itself: nothing to keep
        table = self._tables.get((device, beyond))
        if table is None or len(table[0]) < length:
            table = self._compute(max(64, 1 << (length - 1).bit_length()), device, text)
            self._tables[device, beyond] = table
        return table[0][:length], table[1][:length]

    def of_texts(self, positions: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Rows at `positions` (B, T) in texts of `texts` (B, T) tokens, (B, T, width / 2) each."""
        original = self.options.original_length
        texts = texts.clamp(min=original, max=original + 1 if self.options.scaling == "longrope" else None)
        length, found = int(positions.max()) + 1, None
        for text in texts.unique().tolist():
            tables = [table[positions] for table in self.rows(length, positions.device, text)]
            here = (texts == text).unsqueeze(-1)
            found = tables if found is None else [torch.where(here, *pair) for pair in zip(tables, found, strict=True)]
        assert found is not None
        return found[0], found[1]

    def _compute(self, length: int, device: torch.device, text: int) -> tuple[Tensor, Tensor]:
        # float64 products would differ from every other implementation in the last bits of far positions
        with torch.device("cpu"), torch.inference_mode(False), torch.no_grad():
            angles = torch.outer(torch.arange(length).float(), frequencies(self.width, self.options, text))
            factor = magnitude(self.options)
            return (angles.cos() * factor).to(device), (angles.sin() * factor).to(device)


def rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn `heads` (B, T, H, width) by `cosine`, `sine` (T or B x T, 1, turned width / 2), in fp32; the dtype stays.

    Where the tables are narrower than half a head, the rest of the head is not turned.
    """
    if torch.compiler.is_compiling() or heads.dtype != torch.float32:
        turned = 2 * cosine.shape[-1]
        first, second = heads[..., :turned].chunk(2, dim=-1)
        parts = [first * cosine - second * sine, second * cosine + first * sine]
        if turned < heads.shape[-1]:
            parts.append(heads[..., turned:])
        return torch.cat(parts, dim=-1).to(heads.dtype)
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
    whole = torch.empty(heads.shape, dtype=heads.dtype, device=heads.device)
    turned, width = whole, 2 * cosine.shape[-1]
    if width < heads.shape[-1]:
        whole[..., width:] = heads[..., width:]
        turned, heads = whole[..., :width], heads[..., :width]
    first, second = heads.chunk(2, dim=-1)
    left, right = turned.chunk(2, dim=-1)
    torch.mul(first, cosine, out=left)
    left.addcmul_(second, sine, value=sign)
    torch.mul(second, cosine, out=right)
    right.addcmul_(first, sine, value=-sign)
    return whole
