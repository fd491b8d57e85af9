"""What made-up tasks share: any number of problems, none twice, each a pure function of seed and number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from ostinato.core.manifest import hash_of
from ostinato.core.seeding import key
from ostinato.data.permutation import permute
from ostinato.data.source import Row

LARGEST_SPACE = 2**62  # what a permutation takes


class Problems(ABC):
    """Problems number `first` to `first + size` in an order of the whole space of a task that the seed draws.

    The order is a permutation, so no problem occurs twice, and two sources of one seed whose numbers do not overlap
    share none: `first` of the held-out data is the `size` of the training data. `options` make the fingerprint.
    """

    kind = "generated"
    what: ClassVar[str] = "problem"

    def __init__(self, name: str, seed: int, space: int, options: list[object], size: int, first: int) -> None:
        if size < 1 or first < 0 or first + size > space:
            raise ValueError(f"size: there are {space:,} different {self.what}s, not {first:,} + {size:,}.")
        self.name, self.size, self.first = name, size, first
        self.space, self.order = min(space, LARGEST_SPACE), key(seed, name)
        self.fingerprint = hash_of([name, self.order, *options, size, first])

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Row:
        if not 0 <= index < self.size:
            raise IndexError(f"{self.name} has {self.size} rows, no number {index}")
        return self.problem(int(permute(np.array([self.first + index]), self.space, self.order)[0]))

    def place(self, index: int) -> str:
        """Its number in the order of all problems."""
        return f"{self.what} {self.first + index}"

    @abstractmethod
    def problem(self, number: int) -> Row:
        """The row of a problem: prompt, response and gold answer."""

    def draw(self, number: int, place: int, limit: int) -> int:
        """A number in [0, limit) for a place in a problem, keyed by both."""
        return key(self.order, number, place) % limit


def words_of(base: int, length: int) -> int:
    """How many words of `length` symbols there are, as far as they are told apart."""
    return base ** min(length, numbered_symbols(base))


def numbered_symbols(base: int) -> int:
    """How many symbols a number below LARGEST_SPACE decides; the word's further symbols are drawn."""
    count = 0
    while base ** (count + 1) <= LARGEST_SPACE:
        count += 1
    return count


def word(problems: Problems, number: int, base: int, length: int) -> list[int]:
    """The word with that number, as `length` symbols in [0, base). Words of two numbers differ."""
    symbols, rest, numbered = [], number, numbered_symbols(base)
    for place in range(length):
        if place < numbered:
            rest, symbol = divmod(rest, base)
        else:
            symbol = problems.draw(number, place, base)
        symbols.append(symbol)
    return symbols
