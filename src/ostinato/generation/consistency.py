"""How narrow a step may be computed without changing a bit: measured, on this machine, with the model's own shapes.

A row of a product may depend on how many rows are computed together, and attention over a masked rest on its length.
Which kernel does it depends on shapes, not on values, so a small random model of the same shapes tells. What it does
not show to be equal stays a constant: the full number of slots, the full length of the cache.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ostinato.generation.decoding import Decoding

log = logging.getLogger(__name__)
UNIT = 32  # tokens
TRIED = 128  # tokens in the cache while widths are compared
HORIZON = 2048  # tokens up to which lengths are compared, or as many as are asked for
HEAD = 64  # tokens of a vocabulary that is enough to compare lengths
_widths: dict[tuple[Any, ...], tuple[tuple[int, ...], bool]] = {}
_reaches: dict[tuple[Any, ...], list[int]] = {}


class Shapes(NamedTuple):
    """Numbers of slots, and of positions that attention reaches over, at which a step has the same bits; ascending.

    `together`: whether prompts have the same bits read in one call as each on its own.
    """

    widths: tuple[int, ...]
    reaches: list[int]
    together: bool


def powers_of_two(slots: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to and with `slots`."""
    return (*(1 << n for n in range(slots.bit_length()) if 1 << n < slots), slots)


def all_reaches(length: int, device: torch.device) -> list[int]:
    """How far attention may reach, ascending, the last being `length`: multiples of UNIT, then of coarser ones.

    On a GPU powers of two, for each is a graph of its own.
    """
    found, reach = [], UNIT
    while reach < length:
        found.append(reach)
        reach += reach if device.type == "cuda" else max(UNIT, 1 << (reach.bit_length() - 4))
    return [*found, length]


def equal_shapes(model: Any, slots: int, longest: int, device: torch.device) -> Shapes:
    """What leaves the bits of `slots` rows that attend to the whole cache, for texts of up to `longest` tokens.

    Measured once in a process for shapes and whatever else kernels depend on. A model that keeps nothing between tokens
    (none is offered, or none can be made) is computed row by row, so all are equal; one without a `miniature` is not
    trusted.
    """
    context = getattr(model, "max_positions", None) or 1 << 62
    horizon = min(context, max(HORIZON, 1 << (longest - 1).bit_length()))
    miniature = model.miniature() if hasattr(model, "miniature") else None
    if not hasattr(model, "decoding") or (miniature is None and model.decoding(1, horizon) is None):
        return Shapes(powers_of_two(slots), all_reaches(horizon, device), True)
    if miniature is None:
        return Shapes((slots,), [horizon], False)
    kind, weight = device.type, next(iter(model.parameters()))
    cast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    key = (type(model), str(model.config_dict()), device, weight.dtype, cast, slots, torch.get_num_threads())
    if key not in _widths:
        small, short = miniature(None), min(TRIED, context)
        _widths[key] = equal_widths(small, slots, short, device), read_alike(small, short, device)
    if (*key, horizon) not in _reaches:
        _reaches[*key, horizon] = equal_reaches(miniature(HEAD), _widths[key][0][0], horizon, device)
    widths, together = _widths[key]
    return Shapes(widths, _reaches[*key, horizon], together)


def equal_widths(small: Any, slots: int, length: int, device: torch.device) -> tuple[int, ...]:
    """The widths that give the bits of all slots together, in whatever order the rows are."""
    whole = Trial(small.decoding(slots, length), slots, length, device)
    lengths, rows = whole.lengths_below(length), torch.arange(slots, device=device)
    reference = whole.step(rows, lengths, length)
    equal = []
    for width in powers_of_two(slots):
        narrow = Trial(small.decoding(width, length), width, length, device)
        orders = (rows[:width], rows.flip(0)[:width])
        if all(
            torch.equal(trial.step(order, lengths[order], length), reference[order])
            for order in orders
            for trial in (whole, narrow)
        ):
            equal.append(width)
    if slots not in equal:
        log.warning("a sample's last bits depend on its slot here: %d rows are not computed alike", slots)
        return (slots,)
    return tuple(equal)


def equal_reaches(small: Any, width: int, length: int, device: torch.device) -> list[int]:
    """The reaches that give the bits of all farther ones, whatever the text's length."""
    trial = Trial(small.decoding(width, length), width, length, device)
    rows = torch.arange(width, device=device)
    kept: list[int] = []
    for reach in reversed(all_reaches(length, device)):
        lengths = trial.lengths_below(reach)
        found = trial.step(rows, lengths, reach)
        if all(torch.equal(trial.step(rows, lengths, farther), found) for farther in kept):
            kept.insert(0, reach)
    return kept


def read_alike(small: Any, length: int, device: torch.device) -> bool:
    """Whether prompts read in one call, in whatever order, give the bits of each on its own."""
    decoding = small.decoding(2, length)
    sizes = [max(1, length // 9), max(1, length // 4), max(1, length // 9), 1, max(1, length // 2)]
    prompts = [(torch.arange(size) % (3 + number)).to(device) for number, size in enumerate(sizes)]

    def tried(read: tuple[Tensor, Any], size: int) -> Tensor:
        """The logits behind the prompt, and those a token later."""
        decoding.place(0, read[1])
        one = torch.ones(1, dtype=torch.int64, device=device)
        return torch.cat((read[0][None], decoding.step(one, one * size, size + 1)))

    alone = [tried(decoding.read([prompt])[0], len(prompt)) for prompt in prompts]
    orders = (range(len(prompts)), range(len(prompts))[::-1], (1, 4))
    return all(
        torch.equal(tried(found, sizes[number]), alone[number])
        for order in orders
        for number, found in zip(order, decoding.read([prompts[number] for number in order]), strict=True)
    )


class Trial:
    """Slots that begin with one prompt and go on with unequal tokens at unequal lengths."""

    def __init__(self, decoding: Decoding, slots: int, length: int, device: torch.device) -> None:
        self.decoding, self.slots, self.device = decoding, slots, device
        ((logits, self.prompt),) = decoding.read([(torch.arange(length) % 7).to(device)])
        self.vocabulary = logits.shape[-1]
        self.last: Tensor | None = None

    def lengths_below(self, reach: int) -> Tensor:
        return reach - 1 - torch.arange(self.slots, device=self.device) % min(UNIT, reach)

    def step(self, rows: Tensor, lengths: Tensor, reach: int) -> Tensor:
        """Logits of the first slots, when each is given the token and the length of one of `rows`."""
        if self.last is None or not torch.equal(self.last, rows):  # else what a step left there is what it leaves again
            for slot in range(len(rows)):
                self.decoding.place(slot, self.prompt)
        self.last = rows
        return self.decoding.step(rows * 7919 % self.vocabulary, lengths, reach)
