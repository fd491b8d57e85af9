"""A random order in which neighbours stay near: blocks in a random order, samples shuffled within a few of them."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ostinato.core.seeding import key
from ostinato.data.permutation import permute


class Blocks(NamedTuple):
    """How many samples each block of a source holds, and how many blocks are shuffled together."""

    sizes: tuple[int, ...]
    together: int


class BlockOrder:
    """The order of a source's samples in each epoch, a function of (seed, name, epoch, turn).

    The blocks stand in the order permute(0..B-1, B, key(seed, "blocks", name, epoch)); each `together` of them in a row
    are a stretch, whose s samples stand in the order permute(0..s-1, s, key(seed, "order", name, epoch, stretch)).
    """

    def __init__(self, blocks: Blocks, seed: int, name: str) -> None:
        self._sizes, self._together, self._seed, self._name = np.array(blocks.sizes), blocks.together, seed, name
        self._first = np.cumsum(self._sizes) - self._sizes
        self._epoch = lru_cache(2)(self._work_out)

    def indices(self, epoch: int, turns: np.ndarray) -> np.ndarray:
        """int64, same shape: which samples the turns (in [0, samples)) of an epoch take."""
        order, ends = self._epoch(epoch)
        stretches = np.searchsorted(ends[self._together - 1 :: self._together], turns, side="right")
        places = np.empty_like(turns)
        for stretch in np.unique(stretches):
            mine = stretches == stretch
            begin = int(ends[stretch * self._together - 1]) if stretch else 0
            end = int(ends[min((stretch + 1) * self._together, len(ends)) - 1])
            order_key = key(self._seed, "order", self._name, epoch, int(stretch))
            places[mine] = begin + permute(turns[mine] - begin, end - begin, order_key)
        positions = np.searchsorted(ends, places, side="right")
        blocks = order[positions]
        return self._first[blocks] + places - (ends[positions] - self._sizes[blocks])

    def _work_out(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The blocks in this epoch's order, and how many samples there are up to the end of each."""
        count = len(self._sizes)
        order = permute(np.arange(count), count, key(self._seed, "blocks", self._name, epoch))
        return order, np.cumsum(self._sizes[order])
