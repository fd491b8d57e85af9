"""Whether a response closes the brackets that its prompt opened."""

from __future__ import annotations

from ostinato.core.registry import REWARDS
from ostinato.core.samples import RewardContext, Sample

CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}


@REWARDS.register("balanced")
class Balanced:
    """1.0 if prompt and response together are balanced; else `partial` x the share of brackets closed before the
    first mistake."""

    shaping = False

    def __init__(self, context: RewardContext, *, partial: float = 0.5) -> None:
        if not 0 <= partial < 1:
            raise ValueError(f"partial: {partial} is not between 0 and 1.")
        self.partial = partial

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        """One score for each sample; None, not 0.0, for one that cannot be scored."""
        return [self.score(sample.row["prompt"], sample.text) if sample.row else None for sample in samples]

    def score(self, prompt: str, response: str) -> float:
        """The score of one response."""
        wanted = [CLOSING[letter] for letter in reversed(prompt.removesuffix("="))]
        if list(response) == wanted:
            return 1.0
        right = next((at for at, (a, b) in enumerate(zip(wanted, response, strict=False)) if a != b), None)
        right = min(len(wanted), len(response)) if right is None else right
        return self.partial * right / len(wanted)
