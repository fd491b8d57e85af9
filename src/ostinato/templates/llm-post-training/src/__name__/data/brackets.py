"""Brackets to close: a task of any size whose answers can be checked."""

from __future__ import annotations

from ostinato.core.registry import DATASETS
from ostinato.data.source import Row
from ostinato.data.synthetic import Problems, word, words_of

PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}


@DATASETS.register("brackets")
class Brackets(Problems):
    """Rows `{"prompt": "([<=", "response": ">])"}` with `depth` open brackets of four kinds, to be closed in order.

    No prompt occurs twice. Their order is drawn from the seed; `first` leaves out that many, so that two datasets of
    one seed need not overlap.
    """

    what = "prompt"

    def __init__(self, seed: int, *, depth: int = 8, size: int = 20_000, first: int = 0) -> None:
        if depth < 1:
            raise ValueError(f"depth: {depth} is not at least 1.")
        self.depth = depth
        super().__init__("brackets", seed, words_of(len(PAIRS), depth), [depth], size, first)

    def problem(self, number: int) -> Row:
        """The prompt with that number, and its answer."""
        opened = [list(PAIRS)[kind] for kind in word(self, number, len(PAIRS), self.depth)]
        return {"prompt": "".join(opened) + "=", "response": "".join(PAIRS[one] for one in reversed(opened))}
