"""All randomness: every random act has a key made of what it is for; no generator state is ever saved."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:
    import torch

SEPARATOR = "\x1f"
MASK_63 = (1 << 63) - 1


def key(*parts: object) -> int:
    """63 bits that name a random act: xxh3-64 of "ostinato-1" and the parts' `str`, joined by U+001F."""
    text = SEPARATOR.join(["ostinato-1", *map(str, parts)])
    return xxhash.xxh3_64_intdigest(text.encode("utf-8")) & MASK_63


def generator(*parts: object) -> torch.Generator:
    """A fresh CPU generator seeded with `key(*parts)`."""
    import torch

    return torch.Generator().manual_seed(key(*parts))


def reset_global(*parts: object) -> None:
    """Seed torch's default generators (CPU and devices), Python's and NumPy's with `key(*parts)`.

    The one place where global generators are touched: called before each micro-batch, so that dropout and whatever
    else `forward` draws depend on the step and the micro-batch alone.
    """
    import numpy
    import torch

    seed = key(*parts)
    torch.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed & 0xFFFFFFFF)


@contextmanager
def preserved_global() -> Iterator[None]:
    """Leave the global generators of torch (CPU) as they were found."""
    import torch

    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)
