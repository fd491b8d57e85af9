"""A goal that ends training early: `validation/loss <= 1.9`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ostinato.core.errors import UserError

SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True)
class Goal:
    """A held-out metric and the bound that it should reach."""

    metric: str
    sign: str
    bound: float

    @staticmethod
    def of(text: str) -> Goal:
        """Raises UserError for what is no comparison of a metric with a number."""
        found = re.fullmatch(r"\s*(\S+)\s*(<=|>=|<|>)\s*(\S+)\s*", text)
        try:
            assert found is not None
            return Goal(found[1], found[2], float(found[3]))
        except (AssertionError, ValueError):
            raise UserError(
                f"evaluation.stop_when: {text!r} is no goal. Write metric, sign and number: validation/loss <= 1.9"
            ) from None

    def reached(self, metrics: Mapping[str, float]) -> bool:
        """Whether these metrics reach it. Raises UserError where its metric is not among them."""
        if self.metric not in metrics:
            raise UserError(f"evaluation.stop_when: {self.metric} is not measured; there are: {', '.join(metrics)}.")
        return SIGNS[self.sign](metrics[self.metric], self.bound)
