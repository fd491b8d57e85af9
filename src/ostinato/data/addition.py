"""Sums to learn: a task of any size whose answers can be checked."""

from __future__ import annotations

from ostinato.core.registry import DATASETS
from ostinato.data.source import Row
from ostinato.data.synthetic import Problems


@DATASETS.register("addition")
class Addition(Problems):
    """Rows `{"prompt": "12+7=", "response": "19", "answer": "19"}` with numbers of up to `digits` digits.

    No sum occurs twice. Their order is drawn from the seed; `first` leaves out that many, so that two datasets of one
    seed need not overlap.
    """

    what = "sum"

    def __init__(self, seed: int, *, digits: int = 3, size: int = 100_000, first: int = 0) -> None:
        if not 1 <= digits <= 9:
            raise ValueError(f"digits: {digits} is not between 1 and 9.")
        self.limit = 10**digits
        super().__init__("addition", seed, self.limit**2, [digits], size, first)

    def problem(self, number: int) -> Row:
        """The sum with that number."""
        a, b = divmod(number, self.limit)
        return {"prompt": f"{a}+{b}=", "response": str(a + b), "answer": str(a + b)}
