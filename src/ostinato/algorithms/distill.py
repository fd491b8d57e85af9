"""Distillation: a student learns a frozen teacher's distribution, on data and on what it samples itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ostinato.algorithms.policy_gradient import clip_rule, in_minibatches, policy_metrics
from ostinato.algorithms.scoring import scored
from ostinato.core import seeding
from ostinato.core.errors import RefusedError, UserError
from ostinato.core.registry import ALGORITHMS
from ostinato.core.samples import Sample
from ostinato.core.types import LossOutput, Mean, Metric, StepOutput
from ostinato.data.batches import TokenBatch
from ostinato.data.distillation_rows import DistillationBatch, DistillationRows, PlacedTokens
from ostinato.data.loader import StepData
from ostinato.data.prompts import Prompt
from ostinato.data.tokenizer import Tokenizer
from ostinato.losses.policy_ratio import policy_ratio
from ostinato.training.responses import Response, RolloutBatch
from ostinato.training.reward_table import as_metrics, response_sums, shown
from ostinato.training.rollouts import Rollouts
from ostinato.training.trainer import BaseTrainer, Parts
from ostinato.training.weights import Origin, find_weights

LOG_PROBS = frozenset({"log_probs"})


@ALGORITHMS.register("distill")
class Distill(BaseTrainer):
    """Distillation from a frozen teacher (Agarwal et al. 2023, arXiv:2306.13649) with the student's own vocabulary.

    objective divergence: sum over trained tokens of beta KL(P | M) + (1 - beta) KL(S | M) / tokens of the whole step,
    M = beta P + (1 - beta) S, P teacher, S student, both softmax(logits / temperature); by convention beta 0 is
    KL(P | S) and beta 1 KL(S | P). In nats, not multiplied by temperature^2. Of the samples of a step a share of
    `on_policy_fraction`, drawn by key, gives its place to a response that the student samples (section generation).
    policy_gradient (reverse KL as in MiniLLM, arXiv:2306.08543): of sampled tokens alone, PPO's clipped loss with
    A = log P(y) - old at the temperature of the rollout / sampled tokens; rows of data only serve `nll_weight`.
    Either adds nll_weight x (sum of -log S(y) over tokens of data / their number). Both models without dropout.
    `teacher`: run:NAME[@step] or a folder. `micro_batch_size` counts rows of data, or, where the student samples,
    samples.
    """

    sample_format = DistillationRows
    dropout = False
    headline = ("teacher_log_prob",)

    def __init__(
        self,
        parts: Parts,
        *,
        teacher: str,
        objective: Literal["divergence", "policy_gradient"] = "divergence",
        beta: float = 0.5,
        temperature: float = 1.0,
        on_policy_fraction: float = 0.0,
        nll_weight: float = 0.0,
        clip_ratio: float | None = None,
        clip_ratio_high: float | None = None,
        dual_clip: float | None = None,
        epochs: int = 1,
        minibatches: int = 1,
        allow_filtered_rollouts: bool = False,
    ) -> None:
        super().__init__(parts)
        if not 0.0 <= beta <= 1.0 or temperature <= 0.0 or not 0.0 <= on_policy_fraction <= 1.0:
            raise ValueError("beta and on_policy_fraction lie in [0, 1], temperature above 0.")
        if on_policy_fraction and self.config.data.train_on == "all":
            raise UserError("data.train_on: all leaves no prompt to respond to. Set assistant.")
        if nll_weight and on_policy_fraction == 1.0:
            raise UserError("distill.nll_weight: is for rows of data; on_policy_fraction: 1 leaves none. Lower that.")
        self.beta, self.temperature = beta, temperature
        self.on_policy_fraction, self.nll_weight = on_policy_fraction, nll_weight
        self.epochs, self.minibatches = epochs, minibatches
        self.by_policy_gradient = objective == "policy_gradient"
        clips = {"clip_ratio": clip_ratio, "clip_ratio_high": clip_ratio_high, "dual_clip": dual_clip}
        self.teacher_name = teacher
        self.teacher, self.origin = load_teacher(teacher, self)
        self.rollouts: Any = None
        if on_policy_fraction:
            filtered = allow_filtered_rollouts or not self.by_policy_gradient
            self.rollouts = Rollouts(self, allow_filtered=filtered, judged=False)
        if self.by_policy_gradient:
            self.prepare_policy_gradient(clips)
        elif (epochs, minibatches) != (1, 1) or any(value is not None for value in clips.values()):
            raise UserError(
                f"distill: {', '.join(clips)}, epochs and minibatches belong to objective: policy_gradient. "
                "Leave them out."
            )
        self.names = ["behaviour", "teacher"] if self.by_policy_gradient else []
        self.names += ["old"] if epochs * minibatches > 1 else []
        self.last_rollout: list[Response] = []

    def prepare_policy_gradient(self, clips: dict[str, float | None]) -> None:
        """The clip rule; what is asked for in vain is refused."""
        if not self.on_policy_fraction:
            remedy = "Set on_policy_fraction: 1.0."
            raise UserError(f"distill.objective: policy_gradient learns from what the student samples. {remedy}")
        if (self.beta, self.temperature) != (0.5, 1.0):
            raise UserError("distill: beta and temperature belong to objective: divergence. Leave them out.")
        if self.on_policy_fraction < 1.0 and not self.nll_weight:
            remedy = "Set nll_weight, or on_policy_fraction: 1.0."
            raise UserError(f"distill.nll_weight: without it policy_gradient has no use for rows of data. {remedy}")
        self.beta, self.temperature = 1.0, self.rollouts.params.temperature  # of held-out data: reverse KL
        if self.nll_weight and self.temperature != 1.0:
            raise UserError("generation.temperature: with policy_gradient and nll_weight it must be 1.0.")
        if min(self.epochs, self.minibatches) < 1 or self.minibatches > self.config.training.batch_size:
            raise ValueError("epochs and minibatches are at least 1, minibatches at most training.batch_size.")
        self.clip_rule, self.bounds = clip_rule("distill", "ppo_clip", clips)

    # ---- once per step

    def training_step(self, data: StepData) -> StepOutput:
        """On data alone one update; else the student samples first, and one or more updates follow."""
        if self.rollouts is None:
            return super().training_step(data)
        with torch.no_grad(), self.parts.autocast():
            responses = self.rollout(data)
        table = self.rollouts.table(responses)
        first = self.rollouts.first_of(data)
        sampled = np.array([self.on_policy(number - first) for number in table.prompt.tolist()], dtype=bool)
        parts = in_minibatches(self, table, responses, self.epochs, self.minibatches)
        updates = [self.update([self.batch(chunk) for chunk in self.rollouts.chunks(part)]) for part in parts]
        return self.finish_step(updates, [as_metrics(response_sums(table.only(sampled)))])

    def rollout(self, data: StepData) -> list[Response]:
        """This rank's samples in the order of the plan: rows of data, and responses to prompts of some of them."""
        first, step = self.rollouts.first_of(data), self.global_step + 1
        rows: list[PlacedTokens] = [row for batch in data.micro_batches for row in batch.rows]  # type: ignore[attr-defined]
        asked = [row for row in rows if self.on_policy(row.position)]
        prompts = [Prompt(row.prompt.tolist(), {"prompt": self.tokenizer.decode(row.prompt)}) for row in asked]
        self.last_rollout = self.rollouts.sample(prompts, [first + row.position for row in asked], step)
        if self.by_policy_gradient:
            size = self.rollouts.micro_batch_size(self.last_rollout)
            self.rollouts.layout.fill(self.last_rollout, size, self.score)
        kept = [
            Response(Sample([], first + row.position, 0, stop_reason="eos"), None, None, {}, data=row)
            for row in rows
            if not self.on_policy(row.position)
        ]
        return sorted([*self.last_rollout, *kept], key=lambda one: one.key)

    def on_policy(self, position: int) -> bool:
        """Whether the student responds itself to the sample at a position of the step that is under way."""
        drawn = seeding.key(self.seed, "distill", self.global_step + 1, position)
        return drawn < self.on_policy_fraction * (seeding.MASK_63 + 1)

    def score(self, tokens: TokenBatch) -> dict[str, Tensor]:
        """Log-probs of the teacher and, before several updates, of the student, at the temperature of the rollout."""
        models = {"teacher": self.teacher, "old": self.model}
        wanted = {name: model for name, model in models.items() if name in self.names}
        return {name: scored(model, tokens, temperature=self.temperature).log_probs for name, model in wanted.items()}

    def batch(self, responses: Sequence[Response]) -> DistillationBatch:
        """A micro-batch of rows of data and responses."""
        tokens, ordered = self.rollouts.layout.tokens(responses)
        chosen = np.repeat([one.data is None for one in ordered], [one.length for one in ordered])
        sampled = torch.from_numpy(np.flatnonzero(chosen)).to(self.strategy.device)
        own = [one.tensors for one in ordered if one.data is None]
        nothing = torch.zeros(0, device=self.strategy.device)
        flat = {name: torch.cat([nothing, *(tensors[name] for tensors in own)]) for name in self.names}
        return DistillationBatch(tokens, sampled=sampled, **flat)  # type: ignore[arg-type]

    # ---- once per micro-batch

    def compute_loss(self, batch: DistillationBatch) -> LossOutput:
        on_rollouts = self.by_policy_gradient and batch.sampled is not None
        loss, log_probs, metrics = self.policy_gradient(batch) if on_rollouts else self.divergence(batch)
        if self.nll_weight:
            assert log_probs is not None
            data = torch.ones_like(log_probs)
            if batch.sampled is not None:
                data = data.index_fill(0, batch.sampled, 0.0)
            nll, totals, counts = -(log_probs * data).sum(), batch.totals, batch.counts()
            loss = loss + self.nll_weight * nll / max(totals.tokens - totals.sampled_tokens, 1)
            metrics["nll"] = Mean(nll.detach(), counts["tokens"] - counts["sampled_tokens"])
        return LossOutput(loss, metrics)

    def divergence(self, batch: DistillationBatch) -> Terms:
        """Of every trained token. Held-out data is measured so too, whatever the objective."""
        tokens = batch.tokens
        rows, trained = (tokens.tokens, tokens.positions, tokens.documents), tokens.trained
        with torch.no_grad():
            teacher = self.teacher.as_teacher(*rows, trained=trained, beta=self.beta, temperature=self.temperature)
        want = LOG_PROBS if self.nll_weight else frozenset()
        scores = self.model(*rows, labels=tokens.labels, trained=trained, teacher=teacher, want=want)
        size = scores.divergence.numel()
        metrics: dict[str, Metric] = {
            "divergence": Mean(scores.divergence.detach().sum(), size),
            "teacher_log_prob": Mean(scores.teacher_log_probs.sum(), size),
        }
        return Terms(scores.divergence.sum() / batch.totals.tokens, scores.log_probs, metrics)

    def policy_gradient(self, batch: DistillationBatch) -> Terms:
        """Of the sampled tokens; `divergence` is the estimate of KL(S | P) that they give."""
        tokens, sampled, teacher, behaviour = batch.tokens, batch.sampled, batch.teacher, batch.behaviour
        assert sampled is not None and teacher is not None and behaviour is not None
        scores = scored(self.model, tokens, {"entropy"}, temperature=self.temperature)
        log_probs, entropy = scores.log_probs[sampled], scores.entropy.detach()[sampled]
        old = log_probs.detach() if batch.old is None else batch.old
        advantages, ratio = teacher - old, policy_ratio(log_probs, old, tokens.sequence[sampled], tokens.sequences)
        whole, size = max(batch.totals.sampled_tokens, 1), len(sampled)
        loss = self.clip_rule(ratio, advantages, log_probs).sum() / whole
        rollout = RolloutBatch(tokens, behaviour, reference=teacher)
        about = rollout, log_probs.detach(), entropy, old, ratio.detach(), advantages, self.bounds
        metrics: dict[str, Metric] = {
            "policy_loss": Mean(loss.detach(), size / whole),
            "divergence": Mean(-advantages.sum(), size),
            "teacher_log_prob": Mean(teacher.sum(), size),
            **policy_metrics(*about),
        }
        return Terms(loss, scores.log_probs, metrics)

    # ---- records

    def samples(self) -> list[dict[str, Any]]:
        """The last rollout of this rank, to read."""
        return shown(self.last_rollout)

    def state(self) -> dict[str, Any]:
        known = self.origin.lineage
        return {"teacher": known.get("checkpoint") or "", "teacher_step": known.get("step") or 0}

    def load_state(self, state: dict[str, Any]) -> None:
        """The teacher is that of the run's beginning, even if its run has gone on since."""
        if state != self.state():
            self.teacher, self.origin = load_teacher(self.teacher_name, self, state["teacher_step"] or None)
        if state != self.state():
            raise RefusedError(f"distill.teacher: {self.teacher_name} is no longer what this run began with.")


class Terms(NamedTuple):
    """The loss without likelihood of data, the student's log-probs (N,) if they are known, and metrics."""

    loss: Tensor
    log_probs: Tensor | None
    metrics: dict[str, Metric]


def load_teacher(name: str, trainer: BaseTrainer, step: int | None = None) -> tuple[Any, Origin]:
    """The frozen teacher, of a run the checkpoint of `step` unless the name says which, and where it came from.

    Raises UserError for one that does not fit the student.
    """
    key, remedy = "distill.teacher", "Give the student its tokenizer (tokenizer.name: pretrained, path: ...)."
    origin = find_weights(name, trainer.config.experiment.output_root, step, key=key)
    node, _ = origin.model
    model: Any = origin.build(trainer.strategy.device)
    student: Any = trainer.model
    if not hasattr(model, "as_teacher") or node.options.get("output") == "scalar" or not hasattr(student, "as_teacher"):
        raise UserError(f"{key}: {name} and the student must be language models with `as_teacher`, like transformer.")
    if model.inputs.vocab_size != student.inputs.vocab_size:
        sizes = f"{model.inputs.vocab_size} tokens, the student {student.inputs.vocab_size}"
        raise UserError(f"{key}: {name} has {sizes}; they need one vocabulary. {remedy}")
    if (difference := first_difference(trainer.tokenizer, origin.tokenizer())) is not None:
        raise UserError(f"{key}: {name} has another vocabulary: {difference}. {remedy}")
    if model.max_positions < trainer.config.data.sequence_length:
        longest = f"reads {model.max_positions} tokens, data.sequence_length is {trainer.config.data.sequence_length}"
        raise UserError(f"{key}: {name} {longest}. Lower that.")
    return model, origin


def first_difference(ours: Tokenizer, theirs: Tokenizer) -> str | None:
    """The first id that means two things; None where ids mean the same, whatever templates and ends there are."""
    if ours.fingerprint == theirs.fingerprint:
        return None
    for index in range(max(ours.vocab_size, theirs.vocab_size)):
        if (own := ours.token(index)) != (other := theirs.token(index)):
            return f"id {index} is {other!r} there, {own!r} here"
    return None
