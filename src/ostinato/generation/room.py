"""How many slots of what length a call of the generator gets, and at which widths and lengths it may compute."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from ostinato.core.errors import UserError
from ostinato.generation.consistency import Shapes, all_reaches, equal_shapes, powers_of_two
from ostinato.generation.decoding import Decoding, begin, device_of

log = logging.getLogger(__name__)


class Room(NamedTuple):
    """A decoding with `widths[-1]` slots of `reaches[-1]` tokens; a step may be narrower and reach less far."""

    decoding: Decoding
    widths: list[int]
    reaches: list[int]
    together: bool
    """Whether several prompts may be read in one call."""


def make_room(model: nn.Module, slots: int, samples: int, longest: int, *, exact: bool) -> Room:
    """For so many samples of up to `longest` tokens. Where `exact`, at widths and lengths that leave bits as they are.

    Raises UserError where memory does not suffice and a narrower width would change bits.
    """
    shapes = _shapes(model, slots, longest, exact=exact)
    widths, reaches = at_least(min(slots, samples), shapes.widths), at_least(longest, shapes.reaches)
    for narrower in range(len(widths), 0, -1):
        decoding = _allocate(model, widths[narrower - 1], reaches[-1], exact=exact)
        if decoding is not None:
            if narrower < len(widths):
                log.warning("memory does not suffice for %d slots: %d at once", widths[-1], widths[narrower - 1])
            return Room(decoding, widths[:narrower], reaches, shapes.together)
    raise UserError(_no_room(model, widths[0], reaches[-1]))


def _shapes(model: nn.Module, slots: int, longest: int, *, exact: bool) -> Shapes:
    device = device_of(model)
    if not exact:
        return Shapes(powers_of_two(slots), all_reaches(longest, device), True)
    with memory_or_none():
        return equal_shapes(model, slots, longest, device)
    return Shapes((slots,), [longest], False)  # what does not suffice for a layer does not for all


def at_least(wanted: int, sizes: Iterable[int]) -> list[int]:
    """The ascending sizes up to the first that is large enough."""
    found = []
    for size in sizes:
        found.append(size)
        if size >= wanted:
            break
    return found


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
