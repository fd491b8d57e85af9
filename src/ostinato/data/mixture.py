"""How a block of the mixture is shared out among sources, and how that changes from stage to stage. No state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any

from ostinato.core.errors import UserError


@dataclass(frozen=True)
class Stage:
    """From `first_block` on, each block holds `counts[source]` samples; before it, `turns[source]` had been taken."""

    first_block: int
    counts: Mapping[str, int]
    turns: Mapping[str, int]


def shares(weights: Mapping[str, float], block: int) -> dict[str, int]:
    """Largest remainder: whole numbers in proportion to `weights` that sum to `block`, ties by name.

    Raises UserError where a weight is negative, all are zero, or a positive one would get nothing.
    """
    exact = {name: Fraction(repr(float(weight))) for name, weight in weights.items()}
    total = sum(exact.values())
    if min(exact.values(), default=Fraction(0)) < 0 or not total:
        raise UserError(f"data.train.sources: weights {dict(weights)} must not be negative, and one must be positive.")
    quotas = {name: weight * block / total for name, weight in exact.items()}
    counts = {name: floor(quota) for name, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: (counts[name] - quotas[name], name))
    for name in by_remainder[: block - sum(counts.values())]:
        counts[name] += 1
    for name, weight in exact.items():
        if weight and not counts[name]:
            raise UserError(
                f"data.mixture_block: {block} is too small for source {name}, whose share is {float(weight / total)}. "
                f"Set data.mixture_block to {ceil(total / weight)} or more, or the weight to 0."
            )
    return counts


def staged(
    weights: Mapping[str, float], changes: Sequence[Mapping[str, Any]], block: int, position_of: Any
) -> tuple[Stage, ...]:
    """The stages of a plan. A change {from_step, weights} starts at the first block boundary at or after that step's
    first position, `position_of(step)`; weights it does not name stay as they are.
    """
    found = [Stage(0, shares(weights, block), dict.fromkeys(weights, 0))]
    current = dict(weights)
    for change in _sorted(changes):
        if unknown := set(change["weights"]) - set(weights):
            raise UserError(
                f"data.stages: no source is called {sorted(unknown)[0]}. Known: {', '.join(sorted(weights))}."
            )
        current |= change["weights"]
        before, first = found[-1], ceil(Fraction(position_of(change["from_step"]), block))
        passed = first - before.first_block
        turns = {name: before.turns[name] + passed * before.counts[name] for name in weights}
        stage = Stage(first, shares(current, block), turns)
        found = [*found[:-1], stage] if passed == 0 else [*found, stage]
    return tuple(found)


def _sorted(changes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    for change in changes:
        if (
            set(change) != {"from_step", "weights"}
            or not isinstance(change["from_step"], int)
            or change["from_step"] < 1
        ):
            raise UserError(
                f"data.stages: {dict(change)} is not {{from_step: N, weights: {{source: weight}}}}, N >= 1."
            )
    return sorted(changes, key=lambda change: change["from_step"])
