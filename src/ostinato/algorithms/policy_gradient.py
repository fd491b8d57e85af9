"""What GRPO and PPO share: the order of several updates per rollout, statistics over all ranks, and metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ostinato.algorithms.loss_options import value_of, with_options
from ostinato.core import seeding
from ostinato.core.types import Max, Mean, Metric, Min
from ostinato.losses.kl_estimate import kl_estimate
from ostinato.losses.whiten import Moments, merge, moments
from ostinato.training.metrics import Sum
from ostinato.training.responses import Response, RolloutBatch
from ostinato.training.reward_table import Table
from ostinato.training.trainer import BaseTrainer

CLIP_RULES = {  # by rule, the options that are its bounds on the ratio: distances from 1, or ratios themselves
    "ppo_clip": ("clip_ratio", "clip_ratio_high"),
    "cispo": ("ratio_min", "ratio_max"),
    "sapo": (),
    "unclipped": (),
}


class ClipRule(NamedTuple):
    """A loss of (ratio, advantages, log_probs), and the ratios below and above which it clips."""

    loss: Callable[..., Tensor]
    bounds: tuple[float, float]


def clip_rule(section: str, name: str, given: Mapping[str, float | None]) -> ClipRule:
    """The rule with its options; ValueError for bounds that it refuses, UserError for options that are not its own."""
    loss = with_options(section, name, list(CLIP_RULES), given)
    loss(*[torch.ones(1)] * 3)
    if not CLIP_RULES[name]:
        return ClipRule(loss, (0.0, math.inf))
    low, high = (value_of(loss, option) for option in CLIP_RULES[name])
    if name == "ppo_clip":
        low, high = 1.0 - low, 1.0 + (low if high is None else high)
    return ClipRule(loss, (low, high))


def in_minibatches(
    trainer: BaseTrainer, table: Table, responses: Sequence[Response], epochs: int, minibatches: int
) -> Iterator[list[Response]]:
    """This rank's responses of each update; which responses an update takes does not depend on who holds them."""
    if epochs * minibatches == 1:
        yield list(responses)
        return
    keys = list(table.place())
    for epoch in range(epochs):
        name = trainer.config.algorithm.name
        generator = seeding.generator(trainer.seed, name, "order", trainer.global_step + 1, epoch)
        order = torch.randperm(len(keys), generator=generator).tolist()
        for part in range(minibatches):
            first, behind = (len(keys) * at // minibatches for at in (part, part + 1))
            chosen = {keys[place] for place in order[first:behind]}
            yield [one for one in responses if one.key in chosen]


def whole_moments(trainer: BaseTrainer, responses: Sequence[Response], name: str) -> Moments:
    """Mean and deviation of a tensor of the responses over the tokens of all ranks."""
    flat = torch.cat([one.tensors[name] for one in responses] or [torch.zeros(0)])
    own = torch.stack(moments(flat.cpu()))
    return merge([Moments(*part.unbind()) for part in trainer.strategy.gather(own)])


def moment_sums(name: str, found: Moments) -> dict[str, Sum]:
    """Metrics `name/mean` and `name/std` of what every rank knows."""
    return {
        f"{name}/mean": Sum(Mean, float(found.mean), 1.0),
        f"{name}/std": Sum(Mean, math.sqrt(float(found.variance)), 1.0),
    }


def policy_metrics(
    batch: RolloutBatch,
    log_probs: Tensor,
    entropy: Tensor,
    old: Tensor,
    ratio: Tensor,
    advantages: Tensor,
    bounds: tuple[float, float],
) -> dict[str, Metric]:
    """How far the policy has gone from the sampler, from the rollout's beginning and from its reference.

    `bounds`: ratios below the first and above the second are clipped where their advantage says so.
    """
    with torch.no_grad():
        size = log_probs.numel()
        behaviour = torch.where(batch.behaviour.isnan(), old, batch.behaviour)
        gap = old - behaviour
        low = (ratio < bounds[0]) & (advantages < 0)
        high = (ratio > bounds[1]) & (advantages > 0)
        metrics: dict[str, Metric] = {
            "entropy": Mean(entropy.sum(), size),
            "approx_kl": Mean(kl_estimate(old, log_probs, kind="k3").sum(), size),  # of KL(old || policy)
            "ratio/mean": Mean(ratio.sum(), size),
            "ratio/min": Min(ratio.min() if size else math.inf),
            "ratio/max": Max(ratio.max() if size else -math.inf),
            "clip_fraction/low": Mean(low.sum(), size),
            "clip_fraction/high": Mean(high.sum(), size),
            "rollout/mismatch_max": Max(gap.abs().max() if size else -math.inf),
            "rollout/mismatch_k1": Mean(-gap.sum(), size),  # of KL(behaviour || old)
            "rollout/mismatch_k3": Mean(kl_estimate(behaviour, old, kind="k3").sum(), size),
        }
        if batch.reference is not None:
            metrics["kl"] = Mean(kl_estimate(log_probs, batch.reference, kind="k3").sum(), size)
        return metrics
