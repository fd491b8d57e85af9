"""How narrow a step may be computed without changing a bit: measured, on this machine, with the model's own shapes.

A row of a product may depend on how many rows are computed together, and attention over a masked rest on its length.
Which kernel does it depends on shapes, not on values, so a small random model of the same shapes tells. What it does
not show to be equal stays a constant: the full number of slots, the full length of the cache.
"""

from __future__ import annotations

import logging
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from ostinato.generation.decoding import Decoding

log = logging.getLogger(__name__)
UNIT = 64  # tokens
TRIED = 128  # tokens in the cache while widths are compared
_widths: dict[tuple[Any, ...], tuple[int, ...]] = {}
_lengths: dict[tuple[Any, ...], bool] = {}


def powers_of_two(slots: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to and with `slots`."""
    return (*(1 << n for n in range(slots.bit_length()) if 1 << n < slots), slots)


def reaches(length: int, device: torch.device) -> list[int]:
    """How far attention may reach, ascending, the last being `length`: multiples of UNIT, then of coarser ones.

    On a GPU powers of two, for each is a graph of its own.
    """
    found, reach = [], UNIT
    while reach < length:
        found.append(reach)
        reach += reach if device.type == "cuda" else max(UNIT, 1 << (reach.bit_length() - 4))
    return [*found, length]


def equal_shapes(model: Any, slots: int, length: int, device: torch.device) -> tuple[tuple[int, ...], bool]:
    """The widths that give the bits of `slots`, ascending, and whether attention may reach any way up to `length`.

    Measured once in a process for shapes and whatever else kernels depend on. A model that keeps nothing between tokens
    is computed row by row, so all are equal; one without a `miniature` is not trusted.
    """
    if not hasattr(model, "decoding"):
        return powers_of_two(slots), True
    small = model.miniature() if hasattr(model, "miniature") else None
    if small is None:
        return (slots,), False
    kind, weight = device.type, next(iter(model.parameters()))
    cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    key = (type(model), str(model.config_dict()), device, weight.dtype, cast, slots, torch.get_num_threads())
    if key not in _widths:
        short = min(TRIED, getattr(model, "max_positions", TRIED))
        _widths[key] = Trial(small.decoding(slots, short), slots, short, device).equal_widths()
    width = _widths[key][0]
    if (*key, length) not in _lengths:
        _lengths[*key, length] = Trial(small.decoding(width, length), width, length, device).equal_lengths()
    return _widths[key], _lengths[*key, length]


class Trial:
    """Slots that begin with one prompt and go on with unequal tokens at unequal lengths."""

    def __init__(self, small: Decoding, slots: int, length: int, device: torch.device) -> None:
        self.small, self.slots, self.length, self.device = small, slots, length, device
        logits, self.prompt = small.read((torch.arange(length) % 7).to(device))
        self.tokens = (torch.arange(slots) * 7919 % logits.shape[-1]).to(device)

    def equal_widths(self) -> tuple[int, ...]:
        """The widths that give the bits of all slots together, in whatever order the rows are."""
        lengths = self._lengths_below(self.length)
        reference = self._step(self.tokens, lengths, self.length)
        equal = []
        for width in powers_of_two(self.slots):
            rows = torch.arange(width, device=self.device)
            found = (
                torch.equal(self._step(self.tokens[order], lengths[order], self.length), reference[order])
                for order in (rows, rows.flip(0))
            )
            if all(found):
                equal.append(width)
        if self.slots not in equal:
            log.warning("a sample's last bits depend on its slot here: %d rows are not computed alike", self.slots)
            return (self.slots,)
        return tuple(equal)

    def equal_lengths(self) -> bool:
        """Whether a text of any length comes out the same however far attention reaches behind it."""
        return all(
            torch.equal(*(self._step(self.tokens, self._lengths_below(short), reach) for reach in (short, long)))
            for short, long in combinations(reaches(self.length, self.device), 2)
        )

    def _lengths_below(self, reach: int) -> Tensor:
        return reach - 1 - torch.arange(self.slots, device=self.device) % min(UNIT, reach)

    def _step(self, tokens: Tensor, lengths: Tensor, reach: int) -> Tensor:
        for slot in range(len(tokens)):
            self.small.place(slot, self.prompt)
        return self.small.step(tokens, lengths, reach)
