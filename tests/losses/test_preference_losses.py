"""The preference losses of the specification: values by hand, finite at the ends, equal to TRL where it has them."""

import math
from types import SimpleNamespace

import pytest
import torch

from ostinato.core.registry import LOSSES
from ostinato.losses.bradley_terry import bradley_terry
from ostinato.losses.kto import kto
from ostinato.losses.orpo import log1mexp
from ostinato.losses.pair_scores import PairScores

P = 6
WITH_REFERENCE = [
    *("sigmoid", "robust", "hinge", "ipo", "exo_pair", "nca_pair"),
    *("sppo_hard", "apo_zero", "apo_down", "discopop", "sigmoid_norm"),
]
WITHOUT = ["simpo", "cpo", "orpo"]
DIVERGING = ["sigmoid", "robust", "hinge", "exo_pair", "discopop"]


def scores(chosen_gain, rejected_gain, chosen=-20.0, rejected=-30.0, chosen_tokens=8, rejected_tokens=5):
    """One pair, in float64."""
    numbers = (chosen, rejected, chosen_tokens, rejected_tokens, chosen_gain, rejected_gain)
    return PairScores(*(torch.tensor([float(n)], dtype=torch.float64) for n in numbers))


def log_sigmoid(x):
    return -math.log1p(math.exp(-x)) if x > -500 else x


def sigma(x):
    return 1.0 / (1.0 + math.exp(-x))


C, R, NC, NR, LC, LR = 3.0, -2.0, 8, 5, -20.0, -30.0  # of `scores(C, R)`
H = 0.1 * (C - R)
BY_HAND = [
    ("sigmoid", {}, -log_sigmoid(0.5)),
    ("sigmoid", {"label_smoothing": 0.2}, -0.8 * log_sigmoid(0.5) - 0.2 * log_sigmoid(-0.5)),
    ("robust", {}, (-0.9 * log_sigmoid(0.5) + 0.1 * log_sigmoid(-0.5)) / 0.8),
    ("hinge", {}, 0.5),
    ("hinge", {"beta": 1.0}, 0.0),
    ("ipo", {}, (3 / 8 + 2 / 5 - 5.0) ** 2),
    (
        "exo_pair",
        {},
        sigma(0.5) * (log_sigmoid(0.5) - math.log(0.999)) + sigma(-0.5) * (log_sigmoid(-0.5) - math.log(0.001)),
    ),
    ("nca_pair", {}, -log_sigmoid(0.3) - 0.5 * log_sigmoid(-0.3) - 0.5 * log_sigmoid(0.2)),
    ("sppo_hard", {}, (3.0 - 500.0) ** 2 + (-2.0 + 500.0) ** 2),
    ("sppo_hard", {"beta": 0.5}, (3.0 - 1.0) ** 2 + (-2.0 + 1.0) ** 2),
    ("apo_zero", {}, 1.0 - sigma(0.3) + sigma(-0.2)),
    ("apo_down", {}, sigma(0.3) + 1.0 - sigma(0.5)),
    ("discopop", {}, (1 - sigma(10.0)) * -log_sigmoid(0.5) + sigma(10.0) * math.exp(-0.5)),
    ("sigmoid_norm", {}, -log_sigmoid(5.0 * (3 / 8 + 2 / 5))),
    ("simpo", {}, -log_sigmoid(2.0 * (-20 / 8 + 30 / 5) - 1.0)),
    ("simpo", {"beta": 0.5, "gamma": 0.25}, -log_sigmoid(0.5 * (-20 / 8 + 30 / 5) - 0.25)),
    ("cpo", {}, -log_sigmoid(0.1 * 10.0)),
    (
        "orpo",
        {},
        2.5 - 0.1 * log_sigmoid((-2.5 + 6.0) - (math.log(1 - math.exp(-2.5)) - math.log(1 - math.exp(-6.0)))),
    ),
    ("sigmoid", {"divergence": "forward_kl"}, -log_sigmoid(0.1 * (-math.exp(-3.0) + math.exp(2.0)))),
    ("hinge", {"divergence": "js"}, 1 - 0.1 * (log_sigmoid(3.0) - log_sigmoid(-2.0))),
    (
        "robust",
        {"divergence": "alpha", "alpha": 0.3, "label_smoothing": 0.0},
        -log_sigmoid(0.1 * (math.exp(-2.1) - math.exp(1.4)) / -0.7),
    ),
    ("sigmoid", {"divergence": "alpha", "alpha": 1.0}, -log_sigmoid(0.5)),
]


@pytest.mark.parametrize(("name", "options", "expected"), BY_HAND)
def test_values_by_hand(name, options, expected):
    (found,) = LOSSES.get(name)(scores(C, R), **options).tolist()
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", WITH_REFERENCE + WITHOUT)
@pytest.mark.parametrize("difference", [-2000.0, 2000.0])
def test_loss_and_gradient_are_finite_at_the_ends(name, difference):
    loss = LOSSES.get(name)
    scale = 1.0 if name in ("orpo", "ipo") else loss.__kwdefaults__["beta"]
    gain = torch.tensor([difference / scale / 2, 0.0], requires_grad=True)
    base = torch.tensor([-1e5 if abs(difference) / scale > 4000 else -3000.0, 0.0])
    log_prob = torch.stack([base[0] + gain[0], base[0] - gain[0]])
    ones = torch.ones(1)
    sums = (log_prob[:1].clamp(max=0.0), log_prob[1:].clamp(max=0.0))
    found = loss(PairScores(*sums, ones, ones, gain[:1], -gain[:1])).sum()
    assert math.isfinite(found.item())
    (gradient,) = torch.autograd.grad(found, gain)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("divergence", ["forward_kl", "js", "alpha"])
@pytest.mark.parametrize("name", DIVERGING)
def test_divergences_are_finite_far_from_the_reference(name, divergence):
    gain = torch.tensor([-500.0, 500.0], requires_grad=True)
    pairs = PairScores(*[torch.ones(2)] * 4, gain, -gain)
    found = LOSSES.get(name)(pairs, divergence=divergence).sum()
    assert math.isfinite(found.item())
    assert torch.isfinite(torch.autograd.grad(found, gain)[0]).all()


@pytest.mark.parametrize("probability", [1e-30, 1e-7, 0.3, 0.5, 0.7, 0.999999])
def test_log1mexp_is_exact_at_both_ends(probability):
    x = torch.tensor(math.log(probability), requires_grad=True)
    found = log1mexp(x)
    assert found.item() == pytest.approx(math.log1p(-math.exp(x.item())), rel=2e-6)
    found.backward()
    p = math.exp(x.item())
    assert x.grad.item() == pytest.approx(-p / -math.expm1(x.item()), rel=1e-5)
    certain = torch.tensor(0.0, requires_grad=True)  # a probability of 1 counts as 1 - 1e-6
    assert log1mexp(certain).item() == pytest.approx(math.log(1e-6), rel=1e-5)


def test_a_label_smoothing_that_makes_no_sense_is_refused():
    for name, value in (("robust", 0.5), ("sigmoid", -0.1), ("exo_pair", 0.0)):
        with pytest.raises(ValueError, match="label_smoothing"):
            LOSSES.get(name)(scores(C, R), label_smoothing=value)
    with pytest.raises(ValueError, match="tau"):
        LOSSES.get("discopop")(scores(C, R), tau=2.0)
    with pytest.raises(ValueError, match="divergence"):
        LOSSES.get("sigmoid")(scores(C, R), divergence="kl")


def test_losses_without_reference_say_so():
    assert {n for n in WITH_REFERENCE + WITHOUT if hasattr(LOSSES.get(n), "traits")} == set(WITHOUT)
    assert LOSSES.get("cpo").traits.nll_weight == 1.0
    assert LOSSES.get("orpo").traits.scale == "odds_weight"


def test_kto_by_hand():
    gains, desirable = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64), torch.tensor([True, False, False])
    found = kto(gains, desirable, torch.tensor(0.25), beta=0.4, desirable_weight=1.5, undesirable_weight=0.5)
    expected = [1.5 * (1 - sigma(0.4 * 1.75)), 0.5 * (1 - sigma(0.4 * 1.25)), 0.5 * (1 - sigma(0.4 * -0.25))]
    assert found.tolist() == pytest.approx(expected, rel=1e-7)


def test_bradley_terry_by_hand_and_far_away():
    one = torch.tensor([1.0], dtype=torch.float64)
    found = bradley_terry(2.0 * one, 0.5 * one, 1.0 * one, center_coefficient=0.1)
    assert found.item() == pytest.approx(-log_sigmoid(0.5) + 0.1 * 2.5**2, rel=1e-12)
    far = torch.tensor([-5e4], requires_grad=True)
    loss = bradley_terry(far, -far, torch.zeros(1)).sum()
    assert loss.item() == pytest.approx(1e5)
    assert torch.autograd.grad(loss, far)[0].item() == pytest.approx(-2.0)


# ---- the oracle: TRL's methods, called on plain objects


def random_pairs(dtype=torch.float64):
    """Per-token log-probs (2P, T) of policy and reference, chosen rows first, and the mask of response tokens."""
    draw = torch.Generator().manual_seed(5)
    rows, columns = 2 * P, 9
    policy = -torch.rand(rows, columns, generator=draw, dtype=dtype) * 2
    reference = policy + 0.3 * torch.randn(rows, columns, generator=draw, dtype=dtype)
    lengths = torch.randint(1, columns, (rows,), generator=draw)
    mask = torch.arange(columns) < lengths[:, None]
    return (policy * mask).requires_grad_(), reference * mask, mask


def ours(name, policy, reference, mask, **options):
    gains, sums, tokens = (policy - reference).sum(1), policy.sum(1), mask.sum(1)
    return LOSSES.get(name)(PairScores(sums[:P], sums[P:], tokens[:P], tokens[P:], gains[:P], gains[P:]), **options)


TRL_DIVERGENCES = {"reverse_kl": "reverse_kl", "forward_kl": "forward_kl", "js": "js_divergence"}
WITH_OPTIONS = [
    *((name, {}) for name in WITH_REFERENCE),
    *((name, {"divergence": divergence}) for name in DIVERGING for divergence in ("forward_kl", "js", "alpha")),
    ("sigmoid", {"beta": 0.7}),
    ("robust", {"label_smoothing": 0.3}),
    ("exo_pair", {"label_smoothing": 0.05, "divergence": "alpha", "alpha": 0.7}),
    ("discopop", {"tau": 0.5}),
    ("ipo", {"beta": 2.0}),
]


def fake_dpo_trainer(name, options):
    defaults = {"label_smoothing": 0.0} | (LOSSES.get(name).__kwdefaults__ or {}) | options
    divergence = defaults.get("divergence", "reverse_kl")
    return SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(device="cpu", gather_for_metrics=lambda x: x, gather=lambda x: x),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=False,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=defaults.get("tau")),
        f_divergence_type=TRL_DIVERGENCES.get(divergence, "alpha_divergence"),
        f_alpha_divergence_coef=defaults.get("alpha"),
        loss_types=[name],
        loss_weights=[1.0],
        beta=defaults["beta"],
        label_smoothing=defaults["label_smoothing"],
        use_weighting=False,
        _metrics={"train": __import__("collections").defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )


def stub(log_probs):
    """A model that returns these per-token log-probs."""
    from trl.trainer.utils import FusedCausalLMOutput

    zeros = torch.zeros_like(log_probs)
    return lambda **inputs: FusedCausalLMOutput(
        log_probs=log_probs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(), log_sum_sq_probs=zeros
    )


@pytest.mark.parametrize(("name", "options"), WITH_OPTIONS)
def test_losses_with_reference_equal_trl(name, options, monkeypatch):
    pytest.importorskip("trl")
    import contextlib

    from trl.trainer import dpo_trainer

    monkeypatch.setattr(dpo_trainer, "is_peft_model", lambda model: False)
    monkeypatch.setattr(dpo_trainer, "disable_gradient_checkpointing", lambda *_: contextlib.nullcontext())
    policy, reference, mask = random_pairs(torch.float32)
    first = torch.zeros(2 * P, 1, dtype=torch.int64)
    inputs = {
        "input_ids": torch.zeros(2 * P, mask.shape[1] + 1, dtype=torch.int64),
        "attention_mask": torch.ones(2 * P, mask.shape[1] + 1, dtype=torch.int64),
        "completion_mask": torch.cat([first, mask.long()], dim=1),
    }
    trainer = fake_dpo_trainer(name, options)
    trainer.ref_model = stub(reference)
    theirs = dpo_trainer.DPOTrainer._compute_loss(trainer, stub(policy), inputs, False)
    (their_gradient,) = torch.autograd.grad(theirs, policy)
    mine = ours(name, policy, reference, mask, **options).mean()
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
    (my_gradient,) = torch.autograd.grad(mine, policy)
    torch.testing.assert_close(my_gradient * mask, their_gradient * mask, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "theirs", "options"), [("simpo", "simpo", {}), ("cpo", "sigmoid", {"beta": 0.3})])
def test_losses_without_reference_equal_trl(name, theirs, options):
    pytest.importorskip("trl")
    from trl.experimental.cpo import CPOTrainer

    defaults = (LOSSES.get(name).__kwdefaults__ or {}) | options
    trainer = SimpleNamespace(
        **{"alpha": 0.0, "label_smoothing": 0.0, "loss_type": theirs, "beta": defaults["beta"]},
        simpo_gamma=defaults.get("gamma"),
        accelerator=SimpleNamespace(device="cpu"),
    )
    policy, reference, mask = random_pairs()
    read = policy.sum(1) / mask.sum(1) if name == "simpo" else policy.sum(1)
    losses, *_ = CPOTrainer.cpo_loss(trainer, read[:P], read[P:])
    mine = ours(name, policy, reference, mask, **options)
    torch.testing.assert_close(mine, losses, rtol=1e-9, atol=1e-12)
    (g, t) = (torch.autograd.grad(x.sum(), policy, retain_graph=True)[0] for x in (mine, losses))
    torch.testing.assert_close(g, t, rtol=1e-9, atol=1e-12)


def test_orpo_equals_trl():
    pytest.importorskip("trl")
    from trl.experimental.orpo import ORPOTrainer

    trainer = SimpleNamespace(beta=0.25, accelerator=SimpleNamespace(device="cpu"))
    policy, reference, mask = random_pairs(torch.float32)
    means = policy.sum(1) / mask.sum(1)
    negative, *_ = ORPOTrainer.odds_ratio_loss(trainer, means[:P], means[P:])
    theirs = -means[:P] - negative
    mine = ours("orpo", policy, reference, mask, odds_weight=0.25)
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
    (g, t) = (torch.autograd.grad(x.sum(), policy, retain_graph=True)[0] for x in (mine, theirs))
    torch.testing.assert_close(g, t, rtol=1e-6, atol=1e-6)


def test_kto_equals_trl(monkeypatch):
    pytest.importorskip("trl")
    import contextlib

    from trl.trainer import kto_trainer

    monkeypatch.setattr(kto_trainer, "is_peft_model", lambda model: False)
    monkeypatch.setattr(kto_trainer, "disable_gradient_checkpointing", lambda *_: contextlib.nullcontext())
    policy, reference, mask = random_pairs(torch.float32)
    desirable = torch.arange(2 * P) % 3 != 0
    trainer = fake_dpo_trainer("sigmoid", {"beta": 0.3})
    trainer.calculate_KL, trainer.loss_type = True, "kto"
    trainer.desirable_weight, trainer.undesirable_weight = 1.3, 0.6
    mismatched = iter([torch.full((2 * P,), 1.5), torch.full((2 * P,), 1.1)])  # of the policy, of the reference
    trainer._compute_kl_logps = lambda model, batch: next(mismatched)
    trainer.ref_model = stub(reference)
    inputs = {
        "input_ids": torch.zeros(2 * P, mask.shape[1] + 1, dtype=torch.int64),
        "attention_mask": torch.ones(2 * P, mask.shape[1] + 1, dtype=torch.int64),
        "completion_mask": torch.cat([torch.zeros(2 * P, 1, dtype=torch.int64), mask.long()], dim=1),
        "label": desirable,
    }
    theirs = kto_trainer.KTOTrainer._compute_loss(trainer, stub(policy), inputs, False)
    gains = (policy - reference).sum(1)
    mine = kto(gains, desirable, torch.tensor(0.4), beta=0.3, desirable_weight=1.3, undesirable_weight=0.6).mean()
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
    (g, t) = (torch.autograd.grad(x, policy, retain_graph=True)[0] for x in (mine, theirs))
    torch.testing.assert_close(g * mask, t * mask, rtol=1e-6, atol=1e-7)


def test_bradley_terry_equals_trl():
    pytest.importorskip("trl")
    from trl.trainer.reward_trainer import RewardTrainer

    rewards = torch.linspace(-2.0, 3.0, 2 * P).roll(4).clone().requires_grad_()
    margins = torch.linspace(0.0, 0.5, P)
    trainer = fake_dpo_trainer("sigmoid", {})
    trainer.args.center_rewards_coefficient = 0.05
    inputs = {"attention_mask": torch.ones(2 * P, 3), "margin": margins}
    model = lambda **_: SimpleNamespace(logits=rewards[:, None])  # noqa: E731
    theirs = RewardTrainer.compute_loss(trainer, model, inputs)
    mine = bradley_terry(rewards[:P], rewards[P:], margins, center_coefficient=0.05).mean()
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
    (g, t) = (torch.autograd.grad(x, rewards, retain_graph=True)[0] for x in (mine, theirs))
    torch.testing.assert_close(g, t, rtol=1e-6, atol=1e-7)
