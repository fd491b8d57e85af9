"""How many slots of what length a call of the generator gets, and at which widths and lengths it may compute."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from ostinato.core.errors import UserError
from ostinato.generation.consistency import UNIT, equal_shapes, powers_of_two, reaches
from ostinato.generation.decoding import Decoding, begin, device_of

log = logging.getLogger(__name__)


class Room(NamedTuple):
    """A decoding with `widths[-1]` slots of `reaches[-1]` tokens; a step may be narrower and reach less far."""

    decoding: Decoding
    widths: tuple[int, ...]
    reaches: list[int]


def make_room(model: nn.Module, slots: int, samples: int, longest: int, context: int | None, *, exact: bool) -> Room:
    """For so many samples of up to `longest` tokens. Where `exact`, at widths and lengths that leave bits as they are.

    Raises UserError where memory does not suffice and a narrower width would change bits.
    """
    device = device_of(model)
    ceiling = min(1 << (max(UNIT, longest) - 1).bit_length(), context or 1 << 62)
    widths, lengths_vary = powers_of_two(slots), True
    if exact:
        with memory_or_none():
            widths, lengths_vary = equal_shapes(model, slots, ceiling, device)
    if lengths_vary:
        grid = reaches(ceiling, device)
        grid = grid[: next(number for number, reach in enumerate(grid) if reach >= longest) + 1]
    else:
        grid = [context or ceiling]  # a constant of the model, whatever the prompts
    wanted = next(width for width in widths if width >= min(slots, samples))
    widths = tuple(width for width in widths if width <= wanted)
    for narrower in range(len(widths), 0, -1):
        decoding = _allocate(model, widths[narrower - 1], grid[-1], exact=exact)
        if decoding is not None:
            if narrower < len(widths):
                log.warning("memory does not suffice for %d slots: %d at once", widths[-1], widths[narrower - 1])
            return Room(decoding, widths[:narrower], grid)
    raise UserError(_no_room(model, widths[0], grid[-1]))


def _allocate(model: nn.Module, width: int, length: int, *, exact: bool) -> Decoding | None:
    """None where there is not enough memory."""
    with memory_or_none():
        return begin(model, width, length, exact=exact)
    return None


@contextmanager
def memory_or_none() -> Iterator[None]:
    """Goes on behind its block where memory did not suffice in it."""
    try:
        yield
    except RuntimeError as error:  # of which torch.OutOfMemoryError is one
        if not isinstance(error, torch.OutOfMemoryError) and "alloc" not in str(error):
            raise


def _no_room(model: nn.Module, width: int, length: int) -> str:
    smaller: Sequence[int] = [one for one in reversed(powers_of_two(width)) if one < width]
    fits = next((one for one in smaller if _allocate(model, one, length, exact=True) is not None), None)
    said = f"memory does not suffice to generate {length} tokens in {width} slots"
    if fits is None:
        return f"{said}, nor in one. Shorten prompts or max_new_tokens."
    return f"{said}, and fewer would change the bits of samples. Set the generator's slots to {fits}."
