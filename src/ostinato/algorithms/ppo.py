"""Proximal policy optimisation with a critic, for language models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ostinato.algorithms.policy_gradient import clip_rule, in_minibatches, moment_sums, policy_metrics, whole_moments
from ostinato.algorithms.scoring import scored
from ostinato.core.registry import ALGORITHMS
from ostinato.core.types import LossOutput, Mean, StepOutput
from ostinato.data.batches import TokenBatch
from ostinato.data.loader import StepData
from ostinato.data.prompts import Prompts
from ostinato.losses.gae import adaptive_lam, gae
from ostinato.losses.policy_ratio import policy_ratio
from ostinato.losses.value_clip import value_clip
from ostinato.losses.whiten import whiten
from ostinato.training.metrics import Sum
from ostinato.training.model_maker import ModelMaker
from ostinato.training.reference import reference_model
from ostinato.training.responses import Response, RolloutBatch
from ostinato.training.reward_table import Table, as_metrics, reward_sums, shown
from ostinato.training.rollouts import Rollouts
from ostinato.training.trainer import BaseTrainer, Parts


@ALGORITHMS.register("ppo")
class PPO(BaseTrainer):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347; for language models arXiv:2203.02155).

    loss = sum of max(-A r, -A clip(r)) / tokens + value_coefficient * sum of 1/2 max((V - R)^2, (clip(V) - R)^2) /
    tokens - entropy_coefficient * H; rewards are -kl_coefficient (old - reference) on every token plus the score on the
    last; A by GAE (arXiv:1506.02438), R = A + V. A truncated response is bootstrapped by the critic's value behind it.
    `critic` separate: a copy of the policy with a scalar head, `critic_init` policy, or the run:NAME of a reward model;
    shared: a scalar head on the policy. `value_learning_rate` null: the policy's. `batch_size` counts prompts.
    """

    sample_format = Prompts
    dropout = False
    empty_updates = True
    headline = ("reward/mean",)

    @classmethod
    def make_models(cls, make: ModelMaker, options: Mapping[str, Any]) -> dict[str, nn.Module]:
        if options["critic"] == "shared":
            return {"model": make("both")}
        source = None if options["critic_init"] == "policy" else options["critic_init"]
        return {"model": make(), "critic": make("scalar", source)}

    def __init__(
        self,
        parts: Parts,
        *,
        gamma: float = 1.0,
        lam: float = 0.95,
        lam_policy: float | None = None,
        lam_value: float | None = None,
        adaptive_lam_alpha: float | None = None,
        clip_ratio: float = 0.2,
        clip_ratio_high: float | None = None,
        dual_clip: float | None = None,
        value_clip: float | None = 0.2,
        value_coefficient: float = 0.1,
        kl_coefficient: float = 0.05,
        kl_target: float | None = None,
        kl_horizon: int = 10000,
        entropy_coefficient: float = 0.0,
        epochs: int = 4,
        minibatches: int = 1,
        whiten_advantages: bool = True,
        whiten_rewards: bool = False,
        truncation: Literal["bootstrap", "terminal", "mask"] = "bootstrap",
        truncated_score: float | None = None,
        critic: Literal["separate", "shared"] = "separate",
        critic_init: str = "policy",
        value_learning_rate: float | None = None,
        value_warmup_steps: int = 0,
        nll_on_correct: float = 0.0,
        correct_score: float = 1.0,
        allow_filtered_rollouts: bool = False,
    ) -> None:
        super().__init__(parts)
        if min(epochs, minibatches) < 1:
            raise ValueError("epochs and minibatches are at least 1.")
        if critic == "shared" and (value_warmup_steps or value_learning_rate or critic_init != "policy"):
            raise ValueError("value_warmup_steps, value_learning_rate and critic_init are for critic: separate.")
        if kl_target is not None and not kl_coefficient:
            raise ValueError("kl_target: adapts kl_coefficient, which is 0. Set it above 0.")
        self.gamma, self.lam, self.adaptive_lam_alpha = gamma, lam, adaptive_lam_alpha
        self.lam_policy, self.lam_value = lam_policy, lam if lam_value is None else lam_value
        clips = {"clip_ratio": clip_ratio, "clip_ratio_high": clip_ratio_high, "dual_clip": dual_clip}
        self.clip_rule, self.bounds = clip_rule("ppo", "ppo_clip", clips)
        self.value_clip, self.value_coefficient = value_clip, value_coefficient
        self.entropy_coefficient = entropy_coefficient
        self.kl_coefficient, self.kl_target, self.kl_horizon = kl_coefficient, kl_target, kl_horizon
        self.epochs, self.minibatches = epochs, minibatches
        self.whiten_advantages, self.whiten_rewards = whiten_advantages, whiten_rewards
        self.truncation, self.truncated_score = truncation, truncated_score
        self.value_warmup_steps = value_warmup_steps
        self.nll_on_correct, self.correct_score = nll_on_correct, correct_score
        self.critic: Any = parts.models.get("critic")
        self.reference = reference_model(self.model) if kl_coefficient else None
        self.rollouts = Rollouts(self, allow_filtered=allow_filtered_rollouts)
        self.temperature = self.rollouts.params.temperature
        self.value_scale = (value_learning_rate or 0.0) / (self.config.training.learning_rate or 1.0) or 1.0
        self.names = ["behaviour", "old", "advantages", "values", "returns"]
        self.names += ["reference"] if self.reference is not None else []
        self.names += ["correct"] if nll_on_correct else []
        self.last_rollout: list[Response] = []

    # ---- once per step

    def training_step(self, data: StepData) -> StepOutput:
        """Sample, judge, estimate advantages; several updates; then the KL coefficient follows its target."""
        for group in self.optimizer.param_groups:
            warming = self.global_step < self.value_warmup_steps
            group["lr_scale"] = self.value_scale if group["model"] == "critic" else 0.0 if warming else 1.0
        with torch.no_grad(), self.parts.autocast():
            responses, table, record = self.rollout()
        parts = in_minibatches(self, table, responses, self.epochs, self.minibatches)
        updates = [self.update(self.rollouts.micro_batches(part, self.names)) for part in parts]
        if self.kl_target is not None and len(table.penalty):
            error = float(np.clip(table.penalty.mean() / self.kl_coefficient / self.kl_target - 1.0, -0.2, 0.2))
            self.kl_coefficient *= 1.0 + error * len(table.penalty) / self.kl_horizon
        return self.finish_step(updates, [as_metrics(record)])

    def rollout(self) -> tuple[list[Response], Table, dict[str, Sum]]:
        """This rank's responses that are trained, complete; the table of all of these; the step's metrics."""
        responses = self.rollouts.of_step()
        self.rollouts.layout.fill(responses, self.rollouts.micro_batch_size(responses), self.score)
        for one in responses:
            old = one.tensors["old"]
            k = self.kl_coefficient * (old - one.tensors.get("reference", old))
            one.tensors["rewards"], one.penalty = -k, float(k.double().sum())
            if one.sample.truncated and self.truncated_score is not None:
                one.score = self.truncated_score
        table = self.rollouts.table(responses)
        trained = ~np.isnan(table.score)
        if self.truncation == "mask":
            trained &= ~table.truncated
        place = table.place()
        kept = [one for one in responses if trained[place[one.key]]]
        facts = self.estimate(kept)
        self.last_rollout = responses
        return kept, table.only(trained), {**reward_sums(table), **facts}

    def score(self, tokens: TokenBatch) -> dict[str, Tensor]:
        """Per token: log-probs of policy and reference, the critic's value, and its value behind the sequence."""
        found = {"old": scored(self.model, tokens, temperature=self.temperature).log_probs}
        if self.reference is not None:
            found["reference"] = scored(self.reference, tokens, temperature=self.temperature).log_probs
        everywhere = self.values(tokens).flatten()  # (B * T,)
        last = torch.zeros(tokens.sequences, dtype=torch.int64, device=everywhere.device)
        last = last.scatter_reduce(0, tokens.sequence, tokens.trained, "amax")  # the label before the last token
        return {**found, "values": everywhere[tokens.trained], "after": everywhere[last + 1][tokens.sequence]}

    def values(self, tokens: TokenBatch, trained: Tensor | None = None) -> Tensor:
        """The critic at every column, (B, T), or at the columns `trained` alone, (N,)."""
        rows = tokens.tokens, tokens.positions, tokens.documents
        if self.critic is None:
            policy: Any = self.model
            return policy.scalars(*rows)
        return self.critic(*rows, trained=trained)

    def estimate(self, responses: list[Response]) -> dict[str, Sum]:
        """Advantages and returns of each response; metrics over all ranks."""
        for one in responses:
            one.tensors["rewards"][-1] += one.score or 0.0
        if self.whiten_rewards:
            spread = whole_moments(self, responses, "rewards")
            for one in responses:
                one.tensors["rewards"] = self._whitened(one.tensors["rewards"], spread, shift=False)
        for one in responses:
            rewards, values, after = (one.tensors[name] for name in ("rewards", "values", "after"))
            own = torch.zeros(one.length, dtype=torch.int64, device=values.device)
            boot = one.sample.truncated and self.truncation == "bootstrap"
            facts = rewards, values, after[-1:] if boot else torch.zeros_like(after[-1:]), own
            lam: Any = self.lam if self.lam_policy is None else self.lam_policy
            if self.adaptive_lam_alpha is not None:
                lam = adaptive_lam(torch.tensor([one.length], device=values.device), self.adaptive_lam_alpha)
            one.tensors["advantages"] = gae(*facts, gamma=self.gamma, lam=lam)
            one.tensors["returns"] = values + gae(*facts, gamma=self.gamma, lam=self.lam_value)
            one.tensors["errors"] = one.tensors["returns"] - values
            correct = float(one.score is not None and one.score >= self.correct_score)
            one.tensors["correct"] = torch.full_like(values, correct)
            one.advantage = float(one.tensors["advantages"].mean())
        found = {name: whole_moments(self, responses, name) for name in ("advantages", "returns", "errors")}
        if self.whiten_advantages:
            for one in responses:
                one.tensors["advantages"] = self._whitened(one.tensors["advantages"], found["advantages"])
        variance = float(found["returns"].variance)
        explained = 1.0 - float(found["errors"].variance) / variance if variance else math.nan
        return {
            **moment_sums("advantages", found["advantages"]),
            "returns/mean": Sum(Mean, float(found["returns"].mean), 1.0),
            "values/mean": Sum(Mean, float(found["returns"].mean - found["errors"].mean), 1.0),
            "explained_variance": Sum(Mean, explained, 1.0),
            "kl_coefficient": Sum(Mean, self.kl_coefficient, 1.0),
        }

    def _whitened(self, values: Tensor, found: Any, *, shift: bool = True) -> Tensor:
        return whiten(values, found.mean.to(values.device), found.variance.to(values.device), shift=shift)

    # ---- once per micro-batch

    def compute_loss(self, batch: RolloutBatch) -> LossOutput:
        tokens, totals = batch.tokens, batch.totals
        want = {"entropy"} if self.critic is not None else {"entropy", "values"}
        scores = scored(self.model, tokens, want, temperature=self.temperature)
        values = scores.values if self.critic is None else self.values(tokens, tokens.trained)
        lp, old, size = scores.log_probs, batch.old, scores.log_probs.numel()
        assert old is not None and batch.advantages is not None
        assert batch.values is not None and batch.returns is not None
        ratio = policy_ratio(lp, old, tokens.sequence, tokens.sequences)
        policy = self.clip_rule(ratio, batch.advantages, lp).sum() / totals.tokens
        errors = value_clip(values, batch.values, batch.returns, clip=self.value_clip)
        loss = policy + self.value_coefficient * errors.sum() / totals.tokens
        if self.entropy_coefficient:
            loss = loss - self.entropy_coefficient * scores.entropy.sum() / totals.tokens
        if batch.correct is not None and totals.correct_tokens:
            loss = loss - self.nll_on_correct * (lp * batch.correct).sum() / totals.correct_tokens
        beyond = (values.detach() - batch.values).abs() > (math.inf if self.value_clip is None else self.value_clip)
        metrics = {
            "policy_loss": Mean(policy.detach(), size / totals.tokens),
            "value_loss": Mean(errors.detach().sum(), size),
            "value_clip_fraction": Mean(beyond.sum(), size),
        }
        entropy, ratio = scores.entropy.detach(), ratio.detach()
        shared = policy_metrics(batch, lp.detach(), entropy, old, ratio, batch.advantages, self.bounds)
        return LossOutput(loss, {**metrics, **shared})

    # ---- evaluation, records

    def evaluate(self) -> dict[str, float]:
        """Greedy responses to the held-out prompts."""
        return self.rollouts.evaluate()

    def samples(self) -> list[dict[str, Any]]:
        """The last rollout of this rank, to read."""
        return shown(self.last_rollout)

    def state(self) -> dict[str, Any]:
        return {"kl_coefficient": self.kl_coefficient}

    def load_state(self, state: dict[str, Any]) -> None:
        self.kl_coefficient = float(state["kl_coefficient"])
