"""What GRPO and PPO share: the order of several updates per rollout, statistics over all ranks, and metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ostinato.core import seeding
from ostinato.core.types import Max, Mean, Metric, Min
from ostinato.data.batches import TokenBatch
from ostinato.losses.kl_estimate import kl_estimate
from ostinato.losses.whiten import Moments, merge, moments
from ostinato.training.metrics import Sum
from ostinato.training.responses import Response, RolloutBatch
from ostinato.training.reward_table import Table
from ostinato.training.trainer import BaseTrainer


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


def scored(model: Any, tokens: TokenBatch, temperature: float, want: frozenset[str] = frozenset()) -> Any:
    """The model's scores of the trained tokens at the temperature of the rollout."""
    rows = tokens.tokens, tokens.positions, tokens.documents
    return model(*rows, labels=tokens.labels, trained=tokens.trained, temperature=temperature, want=want)


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
        live, gap = (log_probs - old).detach(), (old - batch.behaviour).nan_to_num()
        low = (ratio < bounds[0]) & (advantages < 0)
        high = (ratio > bounds[1]) & (advantages > 0)
        metrics: dict[str, Metric] = {
            "entropy": Mean(entropy.sum(), size),
            "approx_kl": Mean((torch.expm1(live) - live).sum(), size),  # k3 of KL(old || policy)
            "ratio/mean": Mean(ratio.sum(), size),
            "ratio/min": Min(ratio.min() if size else math.inf),
            "ratio/max": Max(ratio.max() if size else -math.inf),
            "clip_fraction/low": Mean(low.sum(), size),
            "clip_fraction/high": Mean(high.sum(), size),
            "rollout/mismatch_max": Max(gap.abs().max() if size else -math.inf),
            "rollout/mismatch_k1": Mean(-gap.sum(), size),
            "rollout/mismatch_k3": Mean((torch.expm1(gap) - gap).sum(), size),  # of KL(behaviour || old)
        }
        if batch.reference is not None:
            metrics["kl"] = Mean(kl_estimate(log_probs, batch.reference, kind="k3").sum(), size)
        return metrics
