"""`B.validation/loss < A.validation/loss + 0.01`: read without running anything, and answered with the numbers.

comparison = sum ("<" | "<=" | ">" | ">=") sum;   sum = product (("+" | "-") product)*
product = factor (("*" | "/") factor)*;           factor = number | RUN.METRIC | "(" sum ")" | "-" factor
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

from ostinato.core.errors import UserError

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
NUMBER = re.compile(r"\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?")
Values = Mapping[str, Mapping[str, float]]


class Answer(NamedTuple):
    """Both sides and whether it holds: never with a NaN."""

    text: str
    left: float
    right: float
    holds: bool


def judge(text: str, values: Values) -> Answer:
    """Answer an assertion on `values`: run -> metric -> number. Raises UserError for what cannot be read."""
    reader = _Reader(text, values)
    left = reader.sum()
    compare = next((sign for sign in COMPARISONS if reader.take(sign)), None)
    if compare is None:
        reader.fail("expected < <= > or >=")
    right = reader.sum()
    if reader.rest:
        reader.fail("expected the end")
    return Answer(text, left, right, COMPARISONS[compare](left, right))


class _Reader:
    """Reads from the left, one character or name at a time, and computes as it goes."""

    def __init__(self, text: str, values: Values) -> None:
        self.text, self.place, self.values, self.depth = text, 0, values, 0

    @property
    def rest(self) -> str:
        return self.text[self.place :].lstrip()

    def fail(self, problem: str) -> NoReturn:
        at = f"at {self.rest!r}" if self.rest else "at its end"
        raise UserError(
            f"--assert {self.text!r}: {problem} {at}. Write 'B.validation/loss < A.validation/loss + 0.01'."
        )

    def take(self, word: str) -> bool:
        """Go on behind `word` if it comes next."""
        if not self.rest.startswith(word):
            return False
        self.place = len(self.text) - len(self.rest) + len(word)
        return True

    def sum(self) -> float:
        total = self.product()
        while True:
            if self.take("+"):
                total += self.product()
            elif self.take("-"):
                total -= self.product()
            else:
                return total

    def product(self) -> float:
        total = self.factor()
        while True:
            if self.take("*"):
                total *= self.factor()
            elif self.take("/"):
                divisor = self.factor()
                total = total / divisor if divisor else math.nan
            else:
                return total

    def factor(self) -> float:
        self.depth += 1
        if self.depth > 50:
            self.fail("too deep")
        try:
            if self.take("-"):
                return -self.factor()
            if self.take("("):
                value = self.sum()
                if not self.take(")"):
                    self.fail("expected )")
                return value
            return self.reference_or_number()
        finally:
            self.depth -= 1

    def reference_or_number(self) -> float:
        """A run's name may begin with a digit and a metric's hold any sign: what is known is tried first."""
        run = self.longest(self.values, behind=".")
        if run is not None:
            self.take(f"{run}.")
            metric = self.longest(self.values[run])
            if metric is None:
                word = re.split(r"[\s<>()]", self.rest)[0]
                near = (
                    difflib.get_close_matches(word, self.values[run], n=3, cutoff=0.4) or sorted(self.values[run])[:8]
                )
                self.fail(f"{run} has no such metric ({' or '.join(near) or 'it has no rows'})")
            self.take(str(metric))
            return self.values[run][str(metric)]
        if match := NUMBER.match(self.rest):
            self.take(match[0])
            return float(match[0])
        self.fail(f"expected a number or RUN.METRIC (runs: {', '.join(self.values)})")

    def longest(self, names: Mapping[str, object], behind: str = "") -> str | None:
        """The longest of the names that comes next, whole."""
        found = [name for name in names if self.rest.startswith(name + behind)]
        whole = [name for name in found if behind or not re.match(r"[\w/@]", self.rest[len(name) :])]
        return max(whole, key=len, default=None)
