"""Whole losses of the GRPO family, RLOO and GKD beside TRL's own, called on the same numbers: values and gradients."""

import functools
from collections import defaultdict
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.numerics.small_rollout import (
    ADVANTAGES,
    LENGTHS,
    LOG_RATIO,
    OLD,
    REFERENCE,
    SEQUENCE,
    N,
    S,
    lengths,
    sequence,
    tensor,
    tolerance,
)

from ostinato.core.types import Totals
from ostinato.losses.aggregate import aggregate
from ostinato.losses.cispo import cispo
from ostinato.losses.divergence import generalised_jsd
from ostinato.losses.group_advantages import group_advantages
from ostinato.losses.kl_estimate import kl_estimate
from ostinato.losses.policy_ratio import policy_ratio
from ostinato.losses.ppo_clip import ppo_clip
from ostinato.losses.rollout_weights import rollout_weights
from ostinato.losses.sapo import sapo
from ostinato.losses.whiten import moments

pytest.importorskip("trl", reason="TRL is the oracle of these tests")

T = max(LENGTHS)
MASK = np.arange(T) < np.array(LENGTHS)[:, None]  # (S, T)
DTYPES = [torch.float64, torch.float32]
TOTALS = Totals({"tokens": N, "sequences": S})
WEIGHTS = np.array([1.0, 0.6, 1.3, 0.9, 2.0, 0.2, 1.1, 0.8, 1.7, 0.4, 1.0, 1.2, 0.7, 1.5, 0.3, 1.0])


def padded(flat, dtype, grad=False):
    """(N,) as (S, T), with numbers in the padding that must not matter."""
    rows = np.full((S, T), -0.77)
    rows[MASK] = flat
    return tensor(rows, dtype, grad)


def model(log_probs):
    """A stub whose head gives these log-probs for the responses, one prompt token before each."""
    from trl.trainer.utils import FusedCausalLMOutput

    return lambda **_: FusedCausalLMOutput(log_probs=log_probs, entropy=torch.ones_like(log_probs))


def trainer(kind, **fields):
    """What a loss of TRL reads of `self`."""
    accelerator = SimpleNamespace(
        autocast=nullcontext, num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, is_main_process=True
    )
    self = SimpleNamespace(
        accelerator=accelerator,
        model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)},
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
        vllm_importance_sampling_correction=True,
        max_completion_length=9,
    )
    vars(self).update(fields)
    name = "_get_per_token_logps_and_entropies"
    setattr(self, name, functools.partial(getattr(kind, name), self))
    return self


def batch(dtype, **fields):
    ids = torch.ones(S, T, dtype=torch.int64)
    return {
        "prompt_ids": ids[:, :1],
        "prompt_mask": ids[:, :1],
        "completion_ids": ids,
        "completion_mask": torch.from_numpy(MASK).long(),
        "advantages": tensor([ADVANTAGES[list(SEQUENCE).index(s)] for s in range(S)], dtype),
        **fields,
    }


CASES = {  # ours: rule, ratio, aggregation; theirs: loss_type and options; how far the policy has moved
    "grpo": (functools.partial(ppo_clip), "token", "sequence_mean", {"loss_type": "grpo"}, 1.0),
    "dr_grpo": (functools.partial(ppo_clip), "token", "fixed_length", {"loss_type": "dr_grpo"}, 1.0),
    "dapo": (
        functools.partial(ppo_clip, clip_ratio_high=0.28),
        "token",
        "token_mean",
        {"loss_type": "dapo", "epsilon_high": 0.28},
        1.0,
    ),
    "dual": (
        functools.partial(ppo_clip, dual_clip=1.5),
        "token",
        "sequence_mean",
        {"loss_type": "grpo", "delta": 1.5},
        1.0,
    ),
    "gspo": (
        functools.partial(ppo_clip, clip_ratio=3e-4, clip_ratio_high=4e-4),
        "sequence_mean",
        "sequence_mean",
        {"loss_type": "grpo", "level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4},
        0.0035,
    ),
    "cispo": (
        functools.partial(cispo, ratio_max=1.3),
        "token",
        "token_mean",
        {"loss_type": "cispo", "epsilon_high": 1.3},
        1.0,
    ),
    # TRL makes its temperatures in fp32: numbers that fp32 holds, so that fp64 can be compared
    "sapo": (functools.partial(sapo, temperature_negative=1.25), "token", "sequence_mean", {"loss_type": "sapo"}, 1.0),
}

# With the ratio of a sequence TRL multiplies its KL by that one, which is not to be copied.
CASES_AND_KL = [
    (case, kl) for case in CASES for kl in (None, "plain", "weighted") if (case, kl) != ("gspo", "weighted")
]


def trl_grpo(log_probs, dtype, options, kl, correction):
    from trl import GRPOTrainer

    options = {"level": "token", "epsilon_low": 0.2, "epsilon_high": 0.2, "delta": None, **options}
    self = trainer(
        GRPOTrainer,
        loss_type=options["loss_type"],
        importance_sampling_level=options["level"],
        epsilon_low=options["epsilon_low"],
        epsilon_high=options["epsilon_high"],
        beta=0.04 if kl else 0.0,
        use_vllm=correction,
        args=SimpleNamespace(
            delta=options["delta"],
            use_bias_correction_kl=kl == "weighted",
            sapo_temperature_pos=1.0,
            sapo_temperature_neg=1.25,
            steps_per_generation=1,
        ),
    )
    fields = {
        "old_per_token_logps": padded(OLD, dtype),
        "ref_per_token_logps": padded(REFERENCE, dtype),
        "importance_sampling_ratio": padded(np.minimum(WEIGHTS, 1.6), dtype),
        "num_items_in_batch": torch.tensor(N),
    }
    return GRPOTrainer._compute_loss(self, model(log_probs), batch(dtype, **fields))


def compare(ours, theirs, log_probs, their_log_probs, dtype):
    np.testing.assert_allclose(ours.item(), theirs.item(), **tolerance(dtype))
    slope = torch.autograd.grad(ours, log_probs)[0].double().numpy()
    their_slope = torch.autograd.grad(theirs, their_log_probs)[0].double().numpy()
    np.testing.assert_allclose(slope, their_slope[MASK], **tolerance(dtype))
    assert not their_slope[~MASK].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("correction", [False, True])
@pytest.mark.parametrize(("case", "kl"), CASES_AND_KL)
def test_the_grpo_family(case, kl, correction, dtype):
    rule, level, how, options, scale = CASES[case]
    flat = OLD + scale * LOG_RATIO
    theirs_at = padded(flat, dtype, grad=True)
    theirs = trl_grpo(theirs_at, dtype, options, kl, correction)

    log_probs, old = tensor(flat, dtype, grad=True), tensor(OLD, dtype)
    losses = rule(policy_ratio(log_probs, old, sequence(), S, level=level), tensor(ADVANTAGES, dtype), log_probs)
    if correction:
        behaviour = old - tensor(np.log(WEIGHTS), dtype)
        losses = losses * rollout_weights(
            old, behaviour, sequence(), S, correction="token_truncate", minimum=0.0, maximum=1.6
        )
    if kl:
        live = policy_ratio(log_probs, old, sequence(), S, level="token") if kl == "weighted" else None
        losses = losses + 0.04 * kl_estimate(log_probs, tensor(REFERENCE, dtype), kind="k3", importance_ratio=live)
    ours = aggregate(losses, sequence(), lengths(), TOTALS, how=how, max_new_tokens=9)
    compare(ours, theirs, log_probs, theirs_at, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rloo(dtype):
    from trl import RLOOTrainer

    theirs_at = padded(OLD + LOG_RATIO, dtype, grad=True)
    self = trainer(RLOOTrainer, epsilon_low=0.2, epsilon_high=0.2)
    old_sums = tensor([OLD[s == SEQUENCE].sum() for s in range(S)], dtype)
    theirs = RLOOTrainer._compute_loss(self, model(theirs_at), batch(dtype, old_logps=old_sums))

    log_probs = tensor(OLD + LOG_RATIO, dtype, grad=True)
    ratio = policy_ratio(log_probs, tensor(OLD, dtype), sequence(), S, level="sequence_sum")
    losses = ppo_clip(ratio, tensor(ADVANTAGES, dtype), log_probs)
    ours = aggregate(losses, sequence(), lengths(), TOTALS, how="sequence_mean")
    compare(ours, theirs, log_probs, theirs_at, dtype)


def test_the_deviation_is_trls():
    """With N - 1 and without the unscorable; TRL's factor n / (n - 1) is made in fp32."""
    from trl.trainer.utils import nanstd

    scores = tensor([1.0, 0.0, float("nan"), 0.5, 2.5])
    advantages, trained = group_advantages(scores.numpy(), [0] * 5)
    np.testing.assert_allclose(advantages, ((scores - 1.0) / (nanstd(scores) + 1e-6)).nan_to_num(), rtol=1e-7)
    assert trained.tolist() == [True, True, False, True, True]
    deviation = moments(scores[torch.from_numpy(trained)]).variance.sqrt()
    assert deviation.item() == pytest.approx(nanstd(scores).item(), rel=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("temperature", [1.0, 0.9])
@pytest.mark.parametrize("beta", [0.0, 0.25, 0.5, 1.0])
def test_distillation(beta, temperature, dtype):
    from trl.experimental.gkd import GKDTrainer

    rng = np.random.default_rng(5)
    logits, teacher = rng.normal(size=(2, 6, 7)) * 2, rng.normal(size=(2, 6, 7)) * 2
    labels = torch.tensor([[-100, 1, 1, 1, -100, -100], [1, 1, 1, 1, 1, -100]])
    ours_at, theirs_at = tensor(logits, dtype, grad=True), tensor(logits, dtype, grad=True)
    theirs = GKDTrainer.generalized_jsd_loss(
        theirs_at, tensor(teacher, dtype), labels, beta=beta, temperature=temperature, num_items_in_batch=8
    )
    own = labels != -100
    values = generalised_jsd(ours_at[own], tensor(teacher, dtype)[own], beta=beta, temperature=temperature)
    ours = values.sum() / 8
    np.testing.assert_allclose(ours.item(), theirs.item(), **tolerance(dtype))
    slopes = [torch.autograd.grad(x, at)[0].numpy() for x, at in ((ours, ours_at), (theirs, theirs_at))]
    np.testing.assert_allclose(*slopes, **tolerance(dtype))
