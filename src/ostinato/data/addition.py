"""Sums to learn: a task of any size whose answers can be checked."""

from __future__ import annotations

import numpy as np

from ostinato.core.manifest import hash_of
from ostinato.core.registry import DATASETS
from ostinato.core.seeding import key
from ostinato.data.permutation import permute
from ostinato.data.source import Row


@DATASETS.register("addition")
class Addition:
    """Rows `{"prompt": "12+7=", "response": "19"}` with numbers of up to `digits` digits, all different.

    Their order is drawn from the seed; `first` leaves out that many, so that two datasets of one seed need not overlap.
    """

    kind = "generated"

    def __init__(self, seed: int, *, digits: int = 3, size: int = 100_000, first: int = 0) -> None:
        if not 1 <= digits <= 9:
            raise ValueError(f"digits: {digits} is not between 1 and 9.")
        self.limit, self.size, self.first = 10**digits, size, first
        if size < 1 or first < 0 or first + size > self.limit**2:
            raise ValueError(f"size: there are {self.limit**2:,} different sums, not {first:,} + {size:,}.")
        self.order = key(seed, "addition")
        self.fingerprint = hash_of(["addition", self.order, digits, size, first])

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Row:
        if not 0 <= index < self.size:
            raise IndexError(f"addition has {self.size} rows, no number {index}")
        number = int(permute(np.array([self.first + index]), self.limit**2, self.order)[0])
        a, b = divmod(number, self.limit)
        return {"prompt": f"{a}+{b}=", "response": str(a + b)}

    def place(self, index: int) -> str:
        """Its number in the order of all sums."""
        return f"sum {self.first + index}"
