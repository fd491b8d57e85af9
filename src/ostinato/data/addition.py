"""Sums to learn: a task of any size whose answers can be checked."""

from __future__ import annotations

from typing import Literal

from ostinato.core.registry import DATASETS
from ostinato.data.source import Row
from ostinato.data.synthetic import Problems


@DATASETS.register("addition")
class Addition(Problems):
    """Rows `{"prompt": "12+7=", "response": "19", "answer": "19"}` with numbers of up to `digits` digits.

    `style` padded: all digits, "012+007=0019"; reversed: so, and the sum from its last digit on, "012+007=9100", in the
    order in which it is worked out, which small models learn much sooner (Lee et al. 2023, arXiv:2307.03381). No sum
    occurs twice. Their order is drawn from the seed; `first` leaves out that many, so that two datasets of one seed
    need not overlap.
    """

    what = "sum"

    def __init__(
        self,
        seed: int,
        *,
        digits: int = 3,
        style: Literal["plain", "padded", "reversed"] = "plain",
        size: int = 100_000,
        first: int = 0,
    ) -> None:
        if not 1 <= digits <= 9:
            raise ValueError(f"digits: {digits} is not between 1 and 9.")
        self.limit = 10**digits
        self.digits, self.style = digits, style
        super().__init__("addition", seed, self.limit**2, [digits, style], size, first)

    def problem(self, number: int) -> Row:
        """The sum with that number."""
        a, b = divmod(number, self.limit)
        pad = 0 if self.style == "plain" else self.digits
        answer = f"{a + b:0{pad + 1}d}" if pad else str(a + b)
        answer = answer[::-1] if self.style == "reversed" else answer
        return {"prompt": f"{a:0{pad}d}+{b:0{pad}d}=", "response": answer, "answer": answer}
