"""The family of GRPO: policy gradients whose baseline is the group of responses to one prompt, without a critic."""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ostinato.algorithms import policy_gradient
from ostinato.algorithms.policy_gradient import in_minibatches, moment_sums, policy_metrics, whole_moments
from ostinato.algorithms.scoring import scored
from ostinato.core.registry import ALGORITHMS
from ostinato.core.types import LossOutput, Mean, StepOutput
from ostinato.data.batches import TokenBatch
from ostinato.data.loader import StepData
from ostinato.data.prompts import Prompts
from ostinato.losses.aggregate import aggregate
from ostinato.losses.group_advantages import group_advantages
from ostinato.losses.kl_estimate import kl_estimate
from ostinato.losses.policy_ratio import policy_ratio
from ostinato.losses.rollout_weights import rollout_weights
from ostinato.losses.token_returns import token_returns
from ostinato.losses.whiten import whiten
from ostinato.training.metrics import Sum
from ostinato.training.reference import reference_model
from ostinato.training.responses import Response, RolloutBatch
from ostinato.training.reward_table import Table, as_metrics, reward_sums, shown
from ostinato.training.rollouts import Rollouts
from ostinato.training.trainer import BaseTrainer, Parts


@ALGORITHMS.register("grpo")
class GRPO(BaseTrainer):
    """Group relative policy optimisation (Shao et al. 2024, arXiv:2402.03300) and its kin, put together by options.

    loss = aggregation of w * clip_rule(ratio, A) + kl_coefficient * k, A = (score - baseline) / scale. `batch_size`
    counts prompts, each with `group_size` responses; `micro_batch_size` counts responses. Denominators are the whole
    step's: token_mean / tokens, sequence_mean and sequence_sum / sequences, fixed_length / (sequences x
    generation.max_new_tokens). Presets: grpo, dr_grpo, dapo, gspo, cispo, sapo, rloo, reinforce_plus_plus. Options of
    clip rules are null for the rule's own default; bounds of cispo are ratios themselves.
    """

    sample_format = Prompts
    dropout = False
    empty_updates = True
    headline = ("reward/mean",)

    def __init__(
        self,
        parts: Parts,
        *,
        group_size: int = 8,
        baseline: Literal["group_mean", "leave_one_out", "none"] = "group_mean",
        scale: Literal["group_std", "batch_std", "none"] = "group_std",
        whiten_tokens: bool = False,
        gamma: float = 1.0,
        ratio: Literal["token", "sequence_mean", "sequence_sum"] = "token",
        clip_rule: Literal["ppo_clip", "cispo", "sapo", "unclipped"] = "ppo_clip",
        clip_ratio: float | None = None,
        clip_ratio_high: float | None = None,
        dual_clip: float | None = None,
        ratio_min: float | None = None,
        ratio_max: float | None = None,
        temperature_positive: float | None = None,
        temperature_negative: float | None = None,
        aggregation: Literal["token_mean", "sequence_mean", "fixed_length", "sequence_sum"] = "sequence_mean",
        kl_coefficient: float = 0.04,
        kl_estimator: Literal["k1", "k2", "k3"] = "k3",
        kl_where: Literal["loss", "reward"] = "loss",
        kl_importance_weighted: bool = False,
        entropy_coefficient: float = 0.0,
        epochs: int = 1,
        minibatches: int = 1,
        mask_truncated: bool = False,
        dynamic_sampling: bool = False,
        max_rounds: int = 10,
        rollout_correction: Literal["none", "token_truncate", "token_mask", "sequence_mask", "geometric_mask"] = "none",
        correction_min: float | None = None,
        correction_max: float | None = None,
        allow_filtered_rollouts: bool = False,
    ) -> None:
        super().__init__(parts)
        if baseline != "none" and group_size < 2:
            raise ValueError(f"group_size: {group_size} leaves a group no baseline. Set at least 2, or baseline: none.")
        if min(epochs, minibatches, max_rounds) < 1:
            raise ValueError("epochs, minibatches and max_rounds are at least 1.")
        given = {
            "clip_ratio": clip_ratio,
            "clip_ratio_high": clip_ratio_high,
            "dual_clip": dual_clip,
            "ratio_min": ratio_min,
            "ratio_max": ratio_max,
            "temperature_positive": temperature_positive,
            "temperature_negative": temperature_negative,
        }
        self.clip_rule, self.bounds = policy_gradient.clip_rule("grpo", clip_rule, given)
        self.baseline, self.scale, self.ratio, self.aggregation = baseline, scale, ratio, aggregation
        self.whiten_tokens, self.gamma = whiten_tokens, gamma
        self.kl_coefficient, self.kl_estimator, self.kl_where = kl_coefficient, kl_estimator, kl_where
        self.kl_importance_weighted, self.entropy_coefficient = kl_importance_weighted, entropy_coefficient
        self.epochs, self.minibatches = epochs, minibatches
        self.mask_truncated = mask_truncated
        self.dynamic_sampling, self.max_rounds = dynamic_sampling, max_rounds
        self.correction = functools.partial(
            rollout_weights, correction=rollout_correction, minimum=correction_min, maximum=correction_max
        )
        self.reference = reference_model(self.model) if kl_coefficient else None
        self.rollouts = Rollouts(self, group_size, allow_filtered=allow_filtered_rollouts)
        self.temperature = self.rollouts.params.temperature
        self.keeps_old = epochs * minibatches > 1 or (kl_where == "reward" and bool(kl_coefficient))
        self.names = ["behaviour", "advantages"]
        self.names += ["old"] if self.keeps_old else []
        self.names += ["reference"] if self.reference is not None else []
        self.last_rollout: list[Response] = []

    # ---- once per step

    def training_step(self, data: StepData) -> StepOutput:
        """Sample, judge, and one or more updates."""
        with torch.no_grad(), self.parts.autocast():
            responses, table, record = self.rollout()
        parts = in_minibatches(self, table, responses, self.epochs, self.minibatches)
        updates = [self.update(self.rollouts.micro_batches(part, self.names)) for part in parts]
        return self.finish_step(updates, [as_metrics(record)])

    def rollout(self) -> tuple[list[Response], Table, dict[str, Sum]]:
        """This rank's responses that are trained, with their advantages; the table of all; the step's metrics."""
        responses, facts = self.sample_groups()
        size = self.rollouts.micro_batch_size(responses)
        if self.keeps_old or self.reference is not None:
            self.rollouts.layout.fill(responses, size, self.score)
        if self.kl_where == "reward" and self.kl_coefficient:
            for one in responses:
                k = self.kl_coefficient * self.kl(one.tensors["old"], one.tensors["reference"])
                one.tensors["penalty"] = k
                one.penalty = 0.0 if self.whiten_tokens else float(k.double().sum())
        table = self.rollouts.table(responses)
        advantages, trained = group_advantages(
            table.score - table.penalty, table.prompt, baseline=self.baseline, scale=self.scale
        )
        if self.mask_truncated:
            trained &= ~table.truncated
        place = table.place()
        for one in responses:
            one.advantage = float(advantages[place[one.key]])
            one.tensors["advantages"] = torch.full_like(one.tensors["behaviour"], one.advantage)
        kept = [one for one in responses if trained[place[one.key]]]
        if self.whiten_tokens:
            facts |= self.whiten(kept)
        else:
            used = advantages[trained]
            facts["advantages/mean"] = Sum(Mean, float(used.sum()), float(len(used)))
            facts["advantages/std"] = Sum(Mean, float(used.std(ddof=1)) if len(used) > 1 else 0.0, 1.0)
        self.last_rollout = responses
        return kept, table.only(trained), {**reward_sums(table), **facts}

    def sample_groups(self) -> tuple[list[Response], dict[str, Sum]]:
        """One round, or as many as it takes to fill the batch with groups whose raw scores differ."""
        responses, rounds, dropped = self.rollouts.of_step(), 1, 0
        if self.dynamic_sampling:
            wanted = self.config.training.batch_size
            while len(useful := self.rollouts.table(responses).differing()) < wanted and rounds < self.max_rounds:
                self.next_data()
                responses, rounds = [*responses, *self.rollouts.of_step()], rounds + 1
            chosen = set(useful[:wanted])
            dropped = rounds * wanted - len(chosen)
            responses = [one for one in responses if one.key[0] in chosen]
        table = self.rollouts.table(responses)
        groups = len(np.unique(table.prompt))
        equal = groups - len(table.differing())
        return responses, {
            "groups/zero_std_fraction": Sum(Mean, float(equal), float(groups)),
            "groups/dropped": Sum(Mean, float(dropped), 1.0),
            "groups/rounds": Sum(Mean, float(rounds), 1.0),
        }

    def score(self, tokens: TokenBatch) -> dict[str, Tensor]:
        """Log-probs of the policy as the updates begin, and of its reference, at the temperature of the rollout."""
        models = {"old": self.model if self.keeps_old else None, "reference": self.reference}
        return {
            name: scored(model, tokens, temperature=self.temperature).log_probs
            for name, model in models.items()
            if model is not None
        }

    def kl(self, log_probs: Tensor, reference: Tensor) -> Tensor:
        """k of each token."""
        return kl_estimate(log_probs, reference, kind=self.kl_estimator)

    def whiten(self, responses: list[Response]) -> dict[str, Sum]:
        """Advantages of tokens: what follows of the score, which falls due at the last token, and of the penalties."""
        for one in responses:
            rewards = -one.tensors.get("penalty", torch.zeros_like(one.tensors["behaviour"]))
            rewards[-1] += one.advantage or 0.0
            own = torch.zeros(one.length, dtype=torch.int64, device=rewards.device)
            one.tensors["advantages"] = token_returns(rewards, own, gamma=self.gamma)
        found = whole_moments(self, responses, "advantages")
        for one in responses:
            moved = found.mean.to(one.tensors["advantages"]), found.variance.to(one.tensors["advantages"])
            one.tensors["advantages"] = whiten(one.tensors["advantages"], *moved)
        return moment_sums("advantages", found)

    # ---- once per micro-batch

    def compute_loss(self, batch: RolloutBatch) -> LossOutput:
        tokens = batch.tokens
        scores = scored(self.model, tokens, {"entropy"}, temperature=self.temperature)
        lp, sequence, count = scores.log_probs, tokens.sequence, tokens.sequences
        assert batch.advantages is not None
        old = lp.detach() if batch.old is None else batch.old
        ratio = policy_ratio(lp, old, sequence, count, level=self.ratio)
        weights = self.correction(old, batch.behaviour, sequence, count)
        policy = self.clip_rule(ratio, batch.advantages, lp) * weights
        per_token = policy
        if batch.reference is not None and self.kl_where == "loss":
            live = policy_ratio(lp, old, sequence, count) if self.kl_importance_weighted else None
            k = kl_estimate(lp, batch.reference, kind=self.kl_estimator, importance_ratio=live)
            per_token = policy + self.kl_coefficient * k
        loss = self.add_up(per_token, batch)
        if self.entropy_coefficient:
            loss = loss - self.entropy_coefficient * scores.entropy.sum() / batch.totals.tokens
        share = Mean(self.add_up(policy.detach(), batch), lp.numel() / batch.totals.tokens)
        metrics = policy_metrics(
            batch, lp.detach(), scores.entropy.detach(), old, ratio.detach(), batch.advantages, self.bounds
        )
        return LossOutput(loss, {"policy_loss": share, **metrics})

    def add_up(self, per_token: Tensor, batch: RolloutBatch) -> Tensor:
        """The micro-batch's share of the step's loss."""
        lengths = batch.tokens.sum_by_sequence(torch.ones_like(per_token))
        return aggregate(
            per_token,
            batch.tokens.sequence,
            lengths,
            batch.totals,
            how=self.aggregation,
            max_new_tokens=self.config.generation.max_new_tokens,
        )

    def evaluate(self) -> dict[str, float]:
        """Greedy responses to the held-out prompts."""
        return self.rollouts.evaluate()

    def samples(self) -> list[dict[str, Any]]:
        """The last rollout of this rank, to read."""
        return shown(self.last_rollout)
