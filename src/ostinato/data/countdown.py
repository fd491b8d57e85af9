"""Numbers to reach a target with: a task with many right answers, which the reward `countdown` checks."""

from __future__ import annotations

from bisect import bisect_right
from functools import partial
from math import comb

from ostinato.core.registry import DATASETS
from ostinato.data.source import Row
from ostinato.data.synthetic import LARGEST_SPACE, Problems

Term = tuple[int, str]  # a value, and how it is written


@DATASETS.register("countdown")
class Countdown(Problems):
    """Rows `{"prompt": "make 22 from 3 8 2=", "response": "(8+3)*2", "answer": ..., "numbers": [...], "target": 22}`.

    `numbers` numbers from 1 to `largest`, each to be used once, with + - * / and parentheses; the answer given is one
    of many. No choice of numbers occurs twice, in any order; two datasets of one seed share none where `first` of one
    is the `size` of the other.
    """

    what = "choice"

    def __init__(self, seed: int, *, numbers: int = 3, largest: int = 50, size: int = 20_000, first: int = 0) -> None:
        if numbers < 2 or largest < 1:
            raise ValueError(f"numbers: {numbers} is not at least 2, or largest: {largest} is not at least 1.")
        self.count, self.largest = numbers, largest
        space = comb(largest + numbers - 1, numbers)
        if space > LARGEST_SPACE:
            raise ValueError(f"numbers: {numbers} up to {largest} can be chosen in too many ways. Lower one of them.")
        super().__init__("countdown", seed, space, [numbers, largest], size, first)

    def problem(self, number: int) -> Row:
        """The choice of numbers with that number, in an order and with a target that are drawn."""
        numbers = self._chosen(number)
        for place in range(self.count - 1, 0, -1):
            other = self.draw(number, place, place + 1)
            numbers[place], numbers[other] = numbers[other], numbers[place]
        target, answer = self._combined(number, [(value, str(value)) for value in numbers])
        return {
            "prompt": f"make {target} from {' '.join(map(str, numbers))}=",
            "response": answer,
            "answer": answer,
            "numbers": numbers,
            "target": target,
        }

    def _chosen(self, rank: int) -> list[int]:
        """Numbers in falling order, by the combinatorial number system (Lehmer 1964) for choices with repetition."""
        numbers = []
        for place in range(self.count, 0, -1):
            index = bisect_right(range(self.largest + place - 1), rank, key=partial(_ways, place)) - 1
            rank -= comb(index, place)
            numbers.append(index - place + 2)
        return numbers

    def _combined(self, number: int, terms: list[Term]) -> Term:
        while len(terms) > 1:
            place = self.count + 3 * len(terms)  # behind the draws of the order, and of the last round
            second = terms.pop(self.draw(number, place, len(terms)))
            first = terms.pop(self.draw(number, place + 1, len(terms)))
            choices = self._choices(*sorted([first, second], reverse=True))
            terms.append(choices[self.draw(number, place + 2, len(choices))])
        return terms[0]

    def _choices(self, large: Term, small: Term) -> list[Term]:
        """What can be made of two terms: whole numbers above 0, products up to ten times the largest number."""
        (a, first), (b, second) = large, small
        values = {"+": a + b, "-": a - b, "*": a * b if a * b <= 10 * self.largest else 0, "/": 0 if a % b else a // b}
        return [(value, f"{_inner(first)}{act}{_inner(second)}") for act, value in values.items() if value > 0]


def _ways(chosen: int, things: int) -> int:
    return comb(things, chosen)


def _inner(text: str) -> str:
    return text if text.isdigit() else f"({text})"
