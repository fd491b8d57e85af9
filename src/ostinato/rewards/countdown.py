"""An expression reaches the target with the numbers given: right answers are many, so each is computed."""

from __future__ import annotations

import ast
import re
from fractions import Fraction
from typing import Any

from ostinato.core.errors import OstinatoError
from ostinato.core.registry import REWARDS
from ostinato.core.samples import RewardContext, Sample

EXPRESSION = re.compile(r"[\d+*/() -]{1,200}")
ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
SPELLINGS = str.maketrans({"×": "*", "÷": "/", "\u2212": "-"})


@REWARDS.register("countdown")
class Countdown:
    """1.0 if the response is an expression that equals the row's `target` and uses its `numbers`, else 0.0.

    The expression is what stands in the last `<answer>`, else the last line; `= target` behind it is left out. It is
    made of numbers, + - * / and parentheses, computed exactly, and holds each number as often as the row does, or with
    `use_all` off, at most as often. None where the row has no target.
    """

    shaping = False

    def __init__(self, context: RewardContext, *, use_all: bool = True) -> None:
        self.use_all = use_all

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        """One score for each sample."""
        return [self._score(sample) for sample in samples]

    def _score(self, sample: Sample) -> float | None:
        row = sample.row or {}
        target, given = row.get("target"), row.get("numbers")
        if target is None or given is None:
            return None
        if not isinstance(target, int) or not all(isinstance(number, int) for number in given):
            raise OstinatoError(f"the row's target {target!r} and numbers {given!r} are no whole numbers.")
        used: list[int] = []
        try:
            reached = value_of(expression_in(sample.text), used) == target
        except (ValueError, ZeroDivisionError):
            return 0.0
        return float(reached and self._fits(used, list(given)))

    def _fits(self, used: list[int], given: list[int]) -> bool:
        for number in used:
            if number not in given:
                return False
            given.remove(number)
        return not (given and self.use_all)


def expression_in(text: str) -> ast.expr:
    """The expression a response ends with. Raises ValueError where it is none."""
    marked = ANSWER.findall(text)
    lines = (marked[-1] if marked else text).translate(SPELLINGS).strip().splitlines()
    written = re.sub(r"=\s*-?\d+\s*\Z", "", lines[-1] if lines else "").strip()
    if not EXPRESSION.fullmatch(written):
        raise ValueError(f"{written[:50]!r} is no expression")
    try:
        return ast.parse(written, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{written!r} is no expression") from error


def value_of(node: ast.expr, used: list[int]) -> Fraction:
    """The value; its numbers are added to `used`. Raises ValueError for all but numbers and + - * /."""
    match node:
        case ast.Constant(int(number)):
            used.append(number)
            return Fraction(number)
        case ast.BinOp(left, ast.Add() | ast.Sub() | ast.Mult() | ast.Div() as act, right):
            a, b = value_of(left, used), value_of(right, used)
            acts: dict[type, Any] = {
                ast.Add: Fraction.__add__,
                ast.Sub: Fraction.__sub__,
                ast.Mult: Fraction.__mul__,
                ast.Div: Fraction.__truediv__,
            }
            return acts[type(act)](a, b)
    raise ValueError(f"{type(node).__name__} is no part of an expression")
