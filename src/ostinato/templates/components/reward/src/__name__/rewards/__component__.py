"""{{class}}: say here what it rewards."""

from __future__ import annotations

from ostinato.core.registry import REWARDS
from ostinato.core.samples import RewardContext, Sample


@REWARDS.register("{{component}}")
class {{class}}:
    """The share of the response's characters that are among `letters`; 0.0 for an empty one."""

    shaping = False  # True: it judges form rather than the answer

    def __init__(self, context: RewardContext, *, letters: str = "aeiou") -> None:
        self.letters = letters

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        """One score for each sample; None, not 0.0, for one that cannot be scored. `sample.row` is the row of data."""
        return [self.score(sample.text) for sample in samples]

    def score(self, text: str) -> float:
        """The score of one response."""
        return sum(letter in self.letters for letter in text) / max(1, len(text))
