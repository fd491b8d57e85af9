"""Words to repeat: the simplest task whose answers can be checked."""

from __future__ import annotations

import string

from ostinato.core.registry import DATASETS
from ostinato.data.source import Row
from ostinato.data.synthetic import Problems, word, words_of


@DATASETS.register("copying")
class Copying(Problems):
    """Rows `{"prompt": "copy hqzab=", "response": "hqzab", "answer": "hqzab"}` with words of `length` letters.

    `letters`: of how many letters of the alphabet. No word occurs twice; two datasets of one seed share none where
    `first` of one is the `size` of the other.
    """

    what = "word"

    def __init__(self, seed: int, *, length: int = 5, letters: int = 26, size: int = 100_000, first: int = 0) -> None:
        if length < 1 or not 2 <= letters <= 26:
            raise ValueError(f"length: {length} is not at least 1, or letters: {letters} is not between 2 and 26.")
        self.length, self.letters = length, letters
        super().__init__("copying", seed, words_of(letters, length), [length, letters], size, first)

    def problem(self, number: int) -> Row:
        """The word with that number."""
        text = "".join(string.ascii_lowercase[symbol] for symbol in word(self, number, self.letters, self.length))
        return {"prompt": f"copy {text}=", "response": text, "answer": text}
