"""Ratios, the four clip rules and the critic's loss: values and gradients against float64 NumPy."""

import functools

import numpy as np
import pytest
import torch
from tests.numerics import reference_rl as reference
from tests.numerics.small_rollout import (
    ADVANTAGES,
    LOG_PROBS,
    LOG_RATIO,
    OLD,
    SEQUENCE,
    UPSTREAM,
    VALUES,
    S,
    close,
    sequence,
    tensor,
)

from ostinato.core.registry import LOSSES
from ostinato.core.signatures import signature_of
from ostinato.losses.cispo import cispo
from ostinato.losses.policy_ratio import policy_ratio
from ostinato.losses.ppo_clip import ppo_clip
from ostinato.losses.sapo import sapo
from ostinato.losses.unclipped import unclipped
from ostinato.losses.value_clip import value_clip

DTYPES = [torch.float64, torch.float32]
LEVELS = ["token", "sequence_mean", "sequence_sum"]


def ratio_of(log_probs, level, old=OLD):
    return policy_ratio(log_probs, tensor(old, log_probs.dtype), sequence(), S, level=level)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", LEVELS)
def test_the_ratio_and_its_gradient(level, dtype):
    log_probs = tensor(LOG_PROBS, dtype, grad=True)
    ratio = ratio_of(log_probs, level)
    close(ratio, reference.policy_ratio(LOG_PROBS, OLD, SEQUENCE, level), dtype)
    (slope,) = torch.autograd.grad((tensor(UPSTREAM, dtype) * ratio).sum(), log_probs)
    close(
        slope,
        reference.gradient(lambda x: UPSTREAM @ reference.policy_ratio(x, OLD, SEQUENCE, level), LOG_PROBS),
        dtype,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", LEVELS)
def test_on_policy_the_ratio_is_one_to_the_bit_and_has_a_gradient(level, dtype):
    """With a single update old is lp without gradient: d mean(r) / d lp_t = 1 / n at sequence_mean, else 1."""
    log_probs = tensor(LOG_PROBS, dtype, grad=True)
    ratio = policy_ratio(log_probs, log_probs, sequence(), S, level=level)
    assert torch.equal(ratio, torch.ones_like(ratio))
    (slope,) = torch.autograd.grad(ratio.sum(), log_probs)
    n = np.bincount(SEQUENCE)[SEQUENCE]
    close(slope, n if level == "sequence_sum" else np.ones(len(n)), dtype)


def test_exponents_are_cut_at_20_without_a_gradient():
    log_probs = tensor([0.0, 0.0, -50.0], grad=True)
    old = tensor([-50.0, -3.0, 0.0])
    ratio = policy_ratio(log_probs, old, torch.tensor([0, 0, 1]), 2, level="token")
    close(ratio, np.exp([20.0, 3.0, -20.0]), torch.float64)
    (slope,) = torch.autograd.grad(ratio.sum(), log_probs)
    assert slope.tolist() == [0.0, pytest.approx(np.exp(3.0)), 0.0]
    total = policy_ratio(log_probs, old, torch.tensor([0, 0, 1]), 2, level="sequence_sum")
    close(total, np.exp([20.0, 20.0, -20.0]), torch.float64)
    assert torch.autograd.grad(total.sum(), log_probs)[0].tolist() == [0.0, 0.0, 0.0]


def test_a_long_sequence_keeps_the_sign_of_its_ratio():
    """4096 tokens, each 1e-6 likelier, in fp32: the sum is +0.004096, the mean 1e-6; sums of lp are near -30000."""
    old = torch.linspace(-15.0, -0.01, 4096)
    exact = ((old + 1e-6).double() - old.double()).sum()  # what fp32 log-probs can say of it
    ratio = policy_ratio(old + 1e-6, old, torch.zeros(4096, dtype=torch.int64), 1, level="sequence_sum")
    assert ratio[0].item() == pytest.approx(exact.exp().item(), rel=1e-7)
    assert ratio[0] > 1


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="sequnce"):
        policy_ratio(tensor(OLD), tensor(OLD), sequence(), S, level="sequnce")


RULES = {
    "symmetric": (functools.partial(ppo_clip), lambda r, a: reference.ppo_clip(r, a, 0.2, 0.2)),
    "asymmetric": (
        functools.partial(ppo_clip, clip_ratio_high=0.28),
        lambda r, a: reference.ppo_clip(r, a, 0.2, 0.28),
    ),
    "narrow": (functools.partial(ppo_clip, clip_ratio=0.05), lambda r, a: reference.ppo_clip(r, a, 0.05, 0.05)),
    "dual": (functools.partial(ppo_clip, dual_clip=1.5), lambda r, a: reference.ppo_clip(r, a, 0.2, 0.2, 1.5)),
    "sapo": (sapo, lambda r, a: reference.sapo(r, a, 1.0, 1.05)),
    "hot": (
        functools.partial(sapo, temperature_positive=0.7, temperature_negative=2.1),
        lambda r, a: reference.sapo(r, a, 0.7, 2.1),
    ),
    "unclipped": (unclipped, lambda r, a: -a * r),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("rule", RULES)
def test_rules_of_the_ratio(rule, level, dtype):
    ours, theirs = RULES[rule]

    def expected(log_probs):
        return theirs(reference.policy_ratio(log_probs, OLD, SEQUENCE, level), ADVANTAGES)

    log_probs = tensor(LOG_PROBS, dtype, grad=True)
    losses = ours(ratio_of(log_probs, level), tensor(ADVANTAGES, dtype), log_probs)
    close(losses, expected(LOG_PROBS), dtype)
    (slope,) = torch.autograd.grad((tensor(UPSTREAM, dtype) * losses).sum(), log_probs)
    close(slope, reference.gradient(lambda x: UPSTREAM @ expected(x), LOG_PROBS), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("bounds", [(0.0, 5.0), (0.0, 1.2), (0.8, 1.2)])
def test_cispo_trains_every_token_with_a_clipped_constant_weight(bounds, level, dtype):
    weights = reference.clipped(reference.policy_ratio(LOG_PROBS, OLD, SEQUENCE, level), *bounds)
    log_probs = tensor(LOG_PROBS, dtype, grad=True)
    losses = cispo(
        ratio_of(log_probs, level), tensor(ADVANTAGES, dtype), log_probs, ratio_min=bounds[0], ratio_max=bounds[1]
    )
    close(losses, reference.cispo(weights, ADVANTAGES, LOG_PROBS), dtype)
    (slope,) = torch.autograd.grad(losses.sum(), log_probs)
    close(slope, -weights * ADVANTAGES, dtype)
    assert (slope != 0).all()


def test_what_the_clip_does_by_hand():
    """r 1.5, 0.5, 1.5, 0.5, 1.1 with A 1, 1, -1, -1, 2 and a clip of 0.2: only steps that would help are cut."""
    log_probs = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.1], dtype=torch.float64).log().requires_grad_()
    losses = ppo_clip(log_probs.exp(), tensor([1.0, 1.0, -1.0, -1.0, 2.0]), log_probs)
    close(losses, [-1.2, -0.5, 1.5, 0.8, -2.2], torch.float64)
    (slope,) = torch.autograd.grad(losses.sum(), log_probs)
    close(slope, [0.0, -0.5, 1.5, 0.0, -2.2], torch.float64)


def test_dual_clip_bounds_negative_advantages_alone():
    """r 4 and c 3: A = -1 costs 3 instead of 4 and has no gradient; A = 1 is cut at 1.2 as ever."""
    log_probs = torch.tensor([4.0, 4.0, 2.0], dtype=torch.float64).log().requires_grad_()
    losses = ppo_clip(log_probs.exp(), tensor([-1.0, 1.0, -1.0]), log_probs, dual_clip=3.0)
    close(losses, [3.0, -1.2, 2.0], torch.float64)
    assert torch.autograd.grad(losses.sum(), log_probs)[0].tolist() == [0.0, 0.0, pytest.approx(2.0)]


def test_on_policy_every_rule_has_the_gradient_of_reinforce():
    for name in ("ppo_clip", "cispo", "sapo", "unclipped"):
        log_probs = tensor(LOG_PROBS, grad=True)
        losses = LOSSES.get(name)(ratio_of(log_probs, "token", LOG_PROBS), tensor(ADVANTAGES), log_probs)
        (slope,) = torch.autograd.grad(losses.sum(), log_probs)
        close(slope, -ADVANTAGES, torch.float64)


def test_huge_ratios_stay_finite():
    log_probs = tensor([0.0, 0.0, -90.0, -90.0], torch.float32, grad=True)
    ratio = policy_ratio(log_probs, tensor([-90.0, -90.0, 0.0, 0.0], torch.float32), torch.arange(4), 4, level="token")
    for name in ("ppo_clip", "cispo", "sapo", "unclipped"):
        losses = LOSSES.get(name)(ratio, tensor([1.0, -1.0, 1.0, -1.0], torch.float32), log_probs)
        (slope,) = torch.autograd.grad(losses.sum(), log_probs, retain_graph=True)
        assert losses.isfinite().all() and slope.isfinite().all()


@pytest.mark.parametrize(
    ("rule", "options", "words"),
    [
        (cispo, {"ratio_max": 1.0}, "ratio_max"),
        (cispo, {"ratio_max": 0.28}, "written out"),
        (cispo, {"ratio_min": 1.2}, "ratio_min"),
        (ppo_clip, {"dual_clip": 1.0}, "dual_clip"),
        (ppo_clip, {"clip_ratio": -0.1}, "clip_ratio"),
        (ppo_clip, {"clip_ratio_high": -0.1}, "clip_ratio_high"),
        (sapo, {"temperature_negative": 0.0}, "temperatures"),
    ],
)
def test_options_that_mean_nothing_are_refused(rule, options, words):
    one = tensor([0.5])
    with pytest.raises(ValueError, match=words):
        rule(one, one, one, **options)


def test_rules_are_picked_by_name_and_share_a_signature():
    assert {name: sorted(signature_of(LOSSES.get(name))) for name in ("ppo_clip", "cispo", "sapo", "unclipped")} == {
        "ppo_clip": ["clip_ratio", "clip_ratio_high", "dual_clip"],
        "cispo": ["ratio_max", "ratio_min"],
        "sapo": ["temperature_negative", "temperature_positive"],
        "unclipped": [],
    }


RETURNS = VALUES + np.array([0.5, -0.4, 0.1, 1.0, -0.05, -0.9, 0.3, 0.2, 0.6, -0.7, 0.35, 0.8, -1.2, 0.45, -0.15, 0.25])
NEW_VALUES = VALUES + 1.1 * LOG_RATIO  # some inside, some beyond 0.2, towards the return and away from it


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("clip", [0.2, 0.03, None])
def test_the_critics_loss(clip, dtype):
    moves = (np.sign(NEW_VALUES - VALUES), np.sign(RETURNS - VALUES), np.abs(NEW_VALUES - VALUES) > 0.2)
    assert len(set(zip(*moves, strict=True))) == 8  # every case is there
    values = tensor(NEW_VALUES, dtype, grad=True)
    losses = value_clip(values, tensor(VALUES, dtype), tensor(RETURNS, dtype), clip=clip)
    close(losses, reference.value_clip(NEW_VALUES, VALUES, RETURNS, clip), dtype)
    (slope,) = torch.autograd.grad((tensor(UPSTREAM, dtype) * losses).sum(), values)
    expected = reference.gradient(lambda v: UPSTREAM @ reference.value_clip(v, VALUES, RETURNS, clip), NEW_VALUES)
    close(slope, expected, dtype)


def test_the_critics_loss_by_hand():
    """R = 1, old 0, clip 0.2. V 0.5: max(0.25, 0.64) / 2, no gradient; V 0.1: 0.81 / 2; V -0.5: 2.25 / 2, away."""
    values = tensor([0.5, 0.1, -0.5], grad=True)
    losses = value_clip(values, tensor([0.0] * 3), tensor([1.0] * 3), clip=0.2)
    close(losses, [0.32, 0.405, 1.125], torch.float64)
    assert torch.autograd.grad(losses.sum(), values)[0].tolist() == pytest.approx([0.0, -0.9, -1.5])
