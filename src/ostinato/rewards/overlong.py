"""The last tokens before the limit of length cost something."""

from __future__ import annotations

from ostinato.core.registry import REWARDS
from ostinato.core.samples import RewardContext, Sample


@REWARDS.register("overlong")
class Overlong:
    """Soft overlong punishment (DAPO, arXiv:2503.14476, eq. 13). A shaping part.

    With n tokens, L = `limit` (null: generation.max_new_tokens) and C = `buffer` (null: L / 5, as in the paper): 0 up
    to n = L - C, then (L - C - n) / C, and -1 above L.
    """

    shaping = True

    def __init__(self, context: RewardContext, *, limit: int | None = None, buffer: int | None = None) -> None:
        self.limit = context.max_new_tokens if limit is None else limit
        self.buffer = self.limit // 5 if buffer is None else buffer
        if not 0 <= self.buffer <= self.limit:
            raise ValueError(f"buffer: {self.buffer} is not between 0 and the limit of {self.limit} tokens.")

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        """One score for each sample."""
        return [self._score(len(sample.response_ids)) for sample in samples]

    def _score(self, tokens: int) -> float:
        free = self.limit - self.buffer
        if tokens <= free:
            return 0.0
        return (free - tokens) / self.buffer if tokens <= self.limit else -1.0
