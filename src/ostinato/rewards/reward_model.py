"""A trained reward model's score of the response."""

from __future__ import annotations

import math
from typing import Any

import torch

from ostinato.core.errors import UserError
from ostinato.core.registry import REWARDS
from ostinato.core.samples import RewardContext, Sample


@REWARDS.register("reward_model")
class RewardModel:
    """The scalar head's number at the last token of prompt and response, in fp32; batches and padding do not matter.

    `path` is `run:NAME` or a folder. `normalise`: less the mean and over the deviation of its scores over the pairs it
    was evaluated on, which are stored with it. `batch_size` responses at once, of like lengths.
    """

    shaping = False

    def __init__(self, context: RewardContext, *, path: str, normalise: bool = False, batch_size: int = 16) -> None:
        if context.load_model is None:
            raise UserError("reward_model: models cannot be loaded here.")
        self.model: Any = context.load_model(path)[0]
        self.batch_size, self.mean, self.deviation = batch_size, 0.0, 1.0
        if normalise:
            self.mean, self.deviation = (_fact(self.model, name, path) for name in ("reward_mean", "reward_std"))
            if not (math.isfinite(self.mean) and 0 < self.deviation < math.inf):
                raise ValueError(f"normalise: {path} has the mean {self.mean} and the deviation {self.deviation}.")

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        """One score for each sample."""
        sequences = [sample.prompt_ids + sample.response_ids for sample in samples]
        order = sorted(range(len(samples)), key=lambda place: len(sequences[place]))
        scores: list[float | None] = [None] * len(samples)
        for first in range(0, len(order), self.batch_size):
            places = order[first : first + self.batch_size]
            for place, score in zip(places, self._scores([sequences[place] for place in places]), strict=True):
                scores[place] = (score - self.mean) / self.deviation
        return scores

    @torch.no_grad()
    def _scores(self, sequences: list[list[int]]) -> list[float]:
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        longest = int(lengths.max())
        tokens = torch.tensor([sequence + [0] * (longest - len(sequence)) for sequence in sequences])  # (B, T)
        positions = torch.arange(longest).expand_as(tokens)
        documents = torch.where(positions < lengths[:, None], 0, -1)
        device = next(self.model.parameters()).device
        scores = self.model(tokens.to(device), positions.to(device), documents.to(device))  # (B, T)
        return scores.float().cpu().gather(1, lengths[:, None] - 1)[:, 0].tolist()


def _fact(model: Any, name: str, path: str) -> float:
    value = getattr(model, name, None)
    if value is None:
        raise ValueError(f"normalise: {path} has no {name}: it was not evaluated on pairs when it was trained.")
    return float(value)
