"""The final answer of a solution is the gold one, as a number or as an expression."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from ostinato.core.registry import REWARDS
from ostinato.core.samples import RewardContext, Sample
from ostinato.rewards.reward import gold_answers
from ostinato.rewards.symbolic import Symbolic
from ostinato.rewards.written_numbers import last_free_number, last_number, whole_number

BRACES = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
REWRITES = [
    (re.compile(r"\\[dt]frac"), r"\\frac"),
    (re.compile(r"\\frac\s*([^\s{\\])\s*([^\s{\\])"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\(?:text|textrm|textbf|mathrm|mbox)\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\(?:left|right|displaystyle)(?![A-Za-z])|\\[,;:! ]|\\?\$"), ""),
    (re.compile(r"(\\[A-Za-z]+)\s+(?=[A-Za-z])"), r"\1\0"),  # the one space that separates
    (re.compile(r"\s+|\.\s*\Z|\A\s*[A-Za-z]\s*=(?=.)"), ""),
    (re.compile(r"\0"), " "),
]


class Answer(NamedTuple):
    """A final answer: as a number, else as normalised text where it was marked; neither: unreadable."""

    number: Fraction | None
    text: str | None


@REWARDS.register("math_answer")
class MathAnswer:
    r"""1.0 if the final answer of the response is a gold one, else 0.0; None where no gold can be read.

    The answer is the last balanced `\boxed{}`, else what follows the last `####` on its line, else the last number.
    Numbers (thousands commas, fractions, exponents, percent / 100, currency, units) are compared as exact fractions
    within `relative_tolerance` of the gold; marked answers that are no numbers as strings without layout, then by
    sympy where it is installed, for at most `timeout_seconds` of its time. The gold, in the row's column `answer`, is
    read by the same rule; unmarked, it must be a number or end in one that is no part of a formula.
    """

    shaping = False

    def __init__(
        self,
        context: RewardContext,
        *,
        answer: str = "answer",
        relative_tolerance: float = 1e-6,
        timeout_seconds: float = 2.0,
    ) -> None:
        self.answer, self.tolerance, self.timeout_seconds = answer, Fraction(relative_tolerance), timeout_seconds

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        """One score for each sample."""
        with Symbolic(self.timeout_seconds) as symbolic:
            return [self._score(sample, symbolic) for sample in samples]

    def _score(self, sample: Sample, symbolic: Symbolic) -> float | None:
        golds = [read_answer(str(gold), is_gold=True) for gold in gold_answers(sample, self.answer)]
        golds = [gold for gold in golds if gold != Answer(None, None)]
        given = read_answer(sample.text)
        return float(any(self._equal(given, gold, symbolic) for gold in golds)) if golds else None

    def _equal(self, given: Answer, gold: Answer, symbolic: Symbolic) -> bool:
        if given.number is not None and gold.number is not None:
            return abs(given.number - gold.number) <= self.tolerance * abs(gold.number)
        if given.text is None or gold.text is None:
            return False
        return given.text == gold.text or symbolic.equal(given.text, gold.text)


def read_answer(text: str, is_gold: bool = False) -> Answer:
    """The final answer in a text; of a gold, an unmarked number that is part of a formula does not count."""
    marked = marked_answer(text)
    if marked is None:
        number = last_free_number(text) if is_gold else last_number(text)
        return Answer(number, None if number is None else str(number))
    return Answer(whole_number(marked), without_layout(marked))


def marked_answer(text: str) -> str | None:
    r"""What the last balanced `\boxed{}` holds, else what follows the last `####` on its line, else None."""
    open_braces: list[tuple[str, int]] = []
    boxed = (-1, -1)
    for match in BRACES.finditer(text):
        if match[0] == "}" and open_braces:
            opening, start = open_braces.pop()
            boxed = max(boxed, (start, match.start())) if opening != "{" else boxed
        elif match[0][-1] == "{" and match[0] != r"\{":
            open_braces.append((match[0], match.end()))
    if boxed[0] >= 0:
        return text[slice(*boxed)]
    _, mark, after = text.rpartition("####")
    return (after.splitlines() or [""])[0].strip().strip("*") if mark else None


def without_layout(text: str) -> str:
    r"""A marked answer without `x =`, spaces, dollars, `\left`, `\text{}` and a full stop; short fractions in full."""
    for pattern, plain in REWRITES:
        text = pattern.sub(plain, text)
    return text
