"""What a reward is, and where it finds the gold answers of a response."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from ostinato.core.samples import Sample


class Reward(Protocol):
    """Built as `REWARDS.build(node, context)`; gives each response a number, or None where it cannot be scored.

    None is not 0.0: an unscorable response is left out of all statistics and is not trained on.

    Example:
        @REWARDS.register("brevity")
        class Brevity:
            shaping = True

            def __init__(self, context, *, longest: int = 100): self.longest = longest
            def __call__(self, samples): return [float(len(sample.text) <= self.longest) for sample in samples]
    """

    shaping: ClassVar[bool] = False
    """Whether it judges form rather than the answer: left out of the raw score that dynamic sampling looks at."""

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        """One score for each sample, in their order."""
        ...


def gold_answers(sample: Sample, column: str) -> list[Any]:
    """The gold answers of a response's row: the items of a list, or the one value; none where there is no gold."""
    value = (sample.row or {}).get(column)
    return [gold for gold in (value if isinstance(value, list | tuple) else [value]) if gold is not None]
