"""Each token of a response costs something."""

from __future__ import annotations

from ostinato.core.registry import REWARDS
from ostinato.core.samples import RewardContext, Sample


@REWARDS.register("length")
class Length:
    """-`coefficient` x tokens of the response / generation.max_new_tokens. A shaping part."""

    shaping = True

    def __init__(self, context: RewardContext, *, coefficient: float = 1.0) -> None:
        self.per_token = coefficient / context.max_new_tokens

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        """One score for each sample."""
        return [-self.per_token * len(sample.response_ids) for sample in samples]
