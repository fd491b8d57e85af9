"""Lists to sort: a task of any size whose answers can be checked."""

from __future__ import annotations

from ostinato.core.registry import DATASETS
from ostinato.data.source import Row
from ostinato.data.synthetic import Problems, word, words_of


@DATASETS.register("sorting")
class Sorting(Problems):
    """Rows `{"prompt": "sort 5 30 9=", "response": "5 9 30", "answer": "5 9 30"}` with `length` numbers.

    Numbers have up to `digits` digits. No list occurs twice (in another order it is another list); two datasets of one
    seed share none where `first` of one is the `size` of the other.
    """

    what = "list"

    def __init__(self, seed: int, *, length: int = 4, digits: int = 2, size: int = 100_000, first: int = 0) -> None:
        if length < 1 or not 1 <= digits <= 9:
            raise ValueError(f"length: {length} is not at least 1, or digits: {digits} is not between 1 and 9.")
        self.length, self.limit = length, 10**digits
        super().__init__("sorting", seed, words_of(self.limit, length), [length, digits], size, first)

    def problem(self, number: int) -> Row:
        """The list with that number."""
        numbers = word(self, number, self.limit, self.length)
        prompt, answer = (" ".join(map(str, some)) for some in (numbers, sorted(numbers)))
        return {"prompt": f"sort {prompt}=", "response": answer, "answer": answer}
