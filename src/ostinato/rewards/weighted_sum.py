"""All rewards of a config as one score: their weighted sum."""

from __future__ import annotations

import math
import numbers
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ostinato.core.errors import OstinatoError, UserError
from ostinato.core.mistakes import ConfigError, Mistake
from ostinato.core.registry import REWARDS
from ostinato.core.samples import RewardContext, Sample
from ostinato.rewards.reward import Reward

SHOWN = 200  # characters of a response or an error in a message


@dataclass(frozen=True)
class Scores:
    """One number for each response, None: unscorable. `raw` is the sum without shaping parts; `parts` are by label."""

    total: list[float | None]
    raw: list[float | None]
    parts: dict[str, list[float | None]]


@REWARDS.register("weighted_sum")
def weighted_sum(nodes: Mapping[str, Any], context: RewardContext) -> WeightedSum:
    """The sum of `weight` x score over the parts of the section `rewards` that are not None; no part itself.

    Weights are not renormalised; the sum is None only where all parts but those for shaping are. Called with samples it
    gives `Scores`.
    """
    if not nodes:
        raise UserError("rewards: no reward is given. Name one: `rewards: {accuracy: {name: exact_match}}`.")
    for label, node in nodes.items():
        if node.name == "weighted_sum":
            mistake = "weighted_sum is what adds all rewards up, no reward itself. Name its parts."
            raise ConfigError([Mistake(node.place, f"rewards.{label}", mistake)])
    return WeightedSum({label: (REWARDS.build(node, context), node.weight) for label, node in nodes.items()})


class WeightedSum:
    """`parts`: label -> (reward, weight)."""

    def __init__(self, parts: Mapping[str, tuple[Reward, float]]) -> None:
        self.parts = dict(parts)

    def __call__(self, samples: list[Sample]) -> Scores:
        """The scores of each sample, in their order. Raises OstinatoError where a reward fails, naming the response."""
        scores = {label: checked_scores(label, reward, samples) for label, (reward, _) in self.parts.items()}
        raw = [label for label, (reward, _) in self.parts.items() if not getattr(reward, "shaping", False)]
        total, scored = (self._sums(scores, labels, len(samples)) for labels in (list(scores), raw))
        if raw:  # a length alone says nothing of a response that nothing else can judge
            total = [None if own is None else whole for whole, own in zip(total, scored, strict=True)]
        return Scores(total, scored, scores)

    def _sums(self, scores: dict[str, list[float | None]], labels: list[str], count: int) -> list[float | None]:
        sums: list[float | None] = []
        for place in range(count):
            terms = [(self.parts[label][1], scores[label][place]) for label in labels]
            known = [weight * score for weight, score in terms if score is not None]
            sums.append(math.fsum(known) if known else None)
        return sums


def checked_scores(label: str, reward: Reward, samples: list[Sample]) -> list[float | None]:
    """What a reward gives, as floats. Raises OstinatoError for an exception, a wrong length or no finite number."""
    try:
        scores = list(reward(samples))
    except Exception as error:
        raise _failure(label, reward, samples, error) from error
    if len(scores) != len(samples):
        raise OstinatoError(
            f"rewards.{label}: {len(scores)} scores for {len(samples)} responses, the first of them "
            f"{shown(samples[0]) if samples else 'missing'}. Return one for each, None where there is none."
        )
    for sample, score in zip(samples, scores, strict=True):
        if score is not None and not (isinstance(score, numbers.Real) and math.isfinite(score)):
            raise OstinatoError(f"rewards.{label}: {score!r} for {shown(sample)}. A score is a finite number, or None.")
    return [None if score is None else float(score) for score in scores]


def shown(sample: Sample) -> str:
    """Which response it is, and how it begins."""
    return f"prompt {sample.prompt}, sample {sample.sample}: {shortened(sample.text)!r}"


def shortened(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _failure(label: str, reward: Reward, samples: list[Sample], error: Exception) -> OstinatoError:
    """The first response that the reward fails on alone; where it fails on none, the first of the call."""
    culprit = next((sample for sample in samples if _fails(reward, sample)), None)
    which = shown(culprit) if culprit else f"{len(samples)} responses, beginning with {shown(samples[0])}"
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = "" if isinstance(error, OstinatoError) else f" ({where.filename}:{where.lineno})"
    return OstinatoError(f"rewards.{label}: {type(error).__name__}: {shortened(str(error))}{place}, for {which}")


def _fails(reward: Reward, sample: Sample) -> bool:
    try:
        reward([sample])
    except Exception:
        return True
    return False
