"""Direct preference optimization and its relatives: one trainer, `dpo.loss` names the formula."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from ostinato.algorithms.loss_options import value_of, with_options
from ostinato.algorithms.scoring import scored
from ostinato.core.errors import UserError
from ostinato.core.registry import ALGORITHMS, LOSSES
from ostinato.core.types import LossOutput, Mean
from ostinato.data.pairs import Pairs, PreferenceBatch
from ostinato.losses.pair_scores import PairScores, Traits
from ostinato.training.parts import Parts
from ostinato.training.precomputed import precompute
from ostinato.training.reference import reference_model
from ostinato.training.trainer import BaseTrainer

ENTROPY = frozenset({"entropy"})


@ALGORITHMS.register("dpo")
class DPO(BaseTrainer):
    """Direct Preference Optimization (Rafailov et al. 2023, arXiv:2305.18290) and 13 other losses over pairs.

    Sum of the loss over pairs / pairs of the whole step, plus nll_weight x (sum of -log p over chosen tokens / chosen
    tokens of the whole step) (arXiv:2404.19733). `loss`: sigmoid, robust, hinge, ipo, exo_pair, nca_pair, sppo_hard,
    apo_zero, apo_down, discopop, sigmoid_norm, and without a reference simpo, cpo, orpo; `ostinato explain NAME` prints
    each. An option left null has that loss's own default. The reference is the model the run starts from; dropout is
    off in the policy too, so the first loss of sigmoid is ln 2. `precompute_reference` scores all data once, before the
    first step, and keeps the result in the cache instead of a second model in memory.
    """

    sample_format = Pairs
    dropout = False

    def __init__(
        self,
        parts: Parts,
        *,
        loss: str = "sigmoid",
        beta: float | None = None,
        label_smoothing: float | None = None,
        gamma: float | None = None,
        tau: float | None = None,
        odds_weight: float | None = None,
        nll_weight: float | None = None,
        divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] | None = None,
        alpha: float | None = None,
        precompute_reference: bool = False,
    ) -> None:
        super().__init__(parts)
        given: dict[str, Any] = {"beta": beta, "label_smoothing": label_smoothing, "gamma": gamma, "tau": tau}
        given |= {"odds_weight": odds_weight, "divergence": divergence, "alpha": alpha}
        self.pair_loss = pair_loss(loss, given)
        traits: Traits = getattr(LOSSES.get(loss), "traits", Traits())
        self.judges, self.scale = traits.judges, value_of(self.pair_loss, traits.scale)
        self.nll_weight = traits.nll_weight if nll_weight is None else nll_weight
        self.reference = reference_model(self.model) if self.judges == "gain" and not precompute_reference else None
        if precompute_reference:
            if self.judges != "gain":
                raise UserError(f"dpo.precompute_reference: {loss} has no reference. Leave it out.")
            precompute(parts, lambda batch: scored(self.model, batch.tokens).log_probs)

    def prepare_batch(self, batch: PreferenceBatch) -> PreferenceBatch:
        if self.reference is not None:
            batch.reference = scored(self.reference, batch.tokens).log_probs
        elif self.judges == "gain" and batch.reference is None:  # precomputed, and a batch without pairs
            batch.reference = batch.margins.new_zeros(0)
        return batch

    def compute_loss(self, batch: PreferenceBatch) -> LossOutput:
        scores = scored(self.model, batch.tokens, ENTROPY)
        pairs = pair_scores(batch, scores.log_probs)
        loss = self.pair_loss(pairs).sum() / batch.totals.pairs
        if self.nll_weight:
            loss = loss - self.nll_weight * pairs.chosen.sum() / batch.totals.chosen_tokens
        return LossOutput(loss, self.metrics(batch, pairs, scores.entropy))

    @torch.no_grad()
    def metrics(self, batch: PreferenceBatch, pairs: PairScores, entropy: Tensor) -> dict[str, Mean]:
        """What a pair is judged by, times `beta` (orpo: `odds_weight`); means over pairs, of nll and entropy over
        chosen and over all trained tokens."""
        counts = batch.counts()
        chosen, rejected = self.judged(pairs)
        sums = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margin": chosen - rejected,
            "rewards/accuracy": chosen > rejected,
            "log_probs/chosen": pairs.chosen,
            "log_probs/rejected": pairs.rejected,
        }
        metrics = {name: Mean(values.sum(), counts["pairs"]) for name, values in sums.items()}
        metrics["nll"] = Mean(-pairs.chosen.sum(), counts["chosen_tokens"])
        metrics["entropy"] = Mean(entropy.sum(), counts["tokens"])
        return metrics

    def judged(self, pairs: PairScores) -> tuple[Tensor, Tensor]:
        """(chosen, rejected), each (P,): gain, log-prob or mean log-prob, times the loss's scale."""
        if self.judges == "gain":
            return self.scale * pairs.chosen_gain, self.scale * pairs.rejected_gain
        if self.judges == "log_prob":
            return self.scale * pairs.chosen, self.scale * pairs.rejected
        return self.scale * pairs.chosen / pairs.chosen_tokens, self.scale * pairs.rejected / pairs.rejected_tokens


def pair_scores(batch: PreferenceBatch, log_probs: Tensor) -> PairScores:
    """(N,) log-probs by pair. Gains are subtracted per token, then summed: sums of a few thousand tokens would round
    their difference away."""
    sums = batch.tokens.sum_by_sequence(log_probs)
    tokens = batch.tokens.sum_by_sequence(torch.ones_like(log_probs))
    if batch.reference is None:
        return PairScores(sums[0::2], sums[1::2], tokens[0::2], tokens[1::2])
    gains = batch.tokens.sum_by_sequence(log_probs - batch.reference)
    return PairScores(sums[0::2], sums[1::2], tokens[0::2], tokens[1::2], gains[0::2], gains[1::2])


def pair_loss(name: str, given: dict[str, Any]) -> Callable[[PairScores], Tensor]:
    """The loss of that name with its options. Raises UserError for what it does not have, ValueError for bad values."""
    if not is_pair_loss(name):
        known = ", ".join(other for other in LOSSES.names() if is_pair_loss(other))
        raise UserError(f"dpo.loss: {name} is no loss over pairs. Known: {known}.")
    homes = [] if all(value is None for value in given.values()) else list(filter(is_pair_loss, LOSSES.names()))
    loss = with_options("dpo", name, homes, given)
    if given["alpha"] is not None and given["divergence"] != "alpha":
        raise UserError("dpo.alpha: belongs to dpo.divergence: alpha. Set that too, or leave it out.")
    loss(PairScores(*torch.zeros(6, 0)))  # refuses values that it has no meaning for
    return loss


def is_pair_loss(name: str) -> bool:
    """Whether the loss of that name is one of pairs."""
    return next(iter(inspect.signature(LOSSES.get(name)).parameters), "") == "pairs"
