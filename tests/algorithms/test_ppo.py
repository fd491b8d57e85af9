"""PPO on real rollouts of a tiny model: critic, advantages, what is carried over a resume."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ostinato.core.mistakes import ConfigError
from ostinato.training.build import build, open_strategy
from tests.algorithms.test_grpo import trainer_of
from tests.numerics import reference_rl
from tests.training.gradient_of_step import gradient_of_step
from tests.training.test_invariance import NO_CLIP, assert_same
from tests.training.test_trainer import with_saver
from tests.training.tiny import tiny_config

SEVERAL = ("ppo.epochs=2", "ppo.minibatches=2")


def made(folder: Path, *overrides: str) -> Any:
    return trainer_of(tiny_config(folder, "ppo", *overrides))


@pytest.mark.parametrize("critic", ["separate", "shared"])
def test_the_gradient_does_not_depend_on_micro_batches(tmp_path: Path, critic: str) -> None:
    torch.set_num_threads(1)
    options = [NO_CLIP, f"ppo.critic={critic}", "ppo.entropy_coefficient=0.01", "ppo.nll_on_correct=0.1", *SEVERAL]
    options.append("ppo.correct_score=0.3")
    whole = gradient_of_step(tiny_config(tmp_path, "ppo", *options))
    assert any("score" in name for name in whole)
    for cut in ("training.micro_batch_size=1", "training.micro_batch_size=3"):
        assert_same(gradient_of_step(tiny_config(tmp_path, "ppo", *options, cut)), whole)


@pytest.mark.parametrize("truncation", ["bootstrap", "terminal", "mask"])
def test_advantages_and_returns_equal_plain_loops(tmp_path: Path, truncation: str) -> None:
    """Every response of a real rollout against the float64 loops; a cut one is worth the critic's value behind it."""
    options = [f"ppo.truncation={truncation}", "ppo.whiten_advantages=false", "ppo.gamma=0.9", "ppo.lam=0.7"]
    trainer = made(tmp_path, *options, "ppo.kl_coefficient=0.3")
    trainer.next_data()
    trainer.reference.model.norm.weight.mul_(1.5)  # a reference that differs
    with torch.no_grad():
        kept, _, _ = trainer.rollout()
    cut = [one.sample.truncated for one in trainer.last_rollout]
    assert any(cut) and not all(cut)
    assert len(kept) == (len(cut) if truncation != "mask" else cut.count(False))
    for one in kept:
        tokens = torch.tensor([one.sample.prompt_ids + one.sample.response_ids])
        values = trainer.critic(tokens)[0].double().detach().numpy()
        first, behind = len(one.sample.prompt_ids) - 1, tokens.shape[1] - 1
        old, reference = one.tensors["old"].double().numpy(), one.tensors["reference"].double().numpy()
        rewards = -0.3 * (old - reference)
        rewards[-1] += one.score
        after = values[behind] if one.sample.truncated and truncation == "bootstrap" else 0.0
        facts = rewards, values[first:behind], [after], np.zeros(one.length, dtype=int)
        wanted = reference_rl.gae(*facts, gamma=0.9, lam=[0.7])
        np.testing.assert_allclose(one.tensors["advantages"].numpy(), wanted, atol=2e-5)
        np.testing.assert_allclose(one.tensors["returns"].numpy(), wanted + values[first:behind], atol=2e-5)


def test_advantages_are_whitened_over_all_tokens(tmp_path: Path) -> None:
    trainer = made(tmp_path)
    trainer.next_data()
    with torch.no_grad():
        kept, _, record = trainer.rollout()
    flat = torch.cat([one.tensors["advantages"] for one in kept]).double()
    assert flat.mean() == pytest.approx(0.0, abs=1e-6) and flat.std() == pytest.approx(1.0, abs=1e-5)
    assert record["advantages/std"].value != pytest.approx(1.0, abs=1e-3)  # told as they were before


def test_a_critic_that_warms_up_leaves_the_policy_as_it_was(tmp_path: Path) -> None:
    trainer = made(tmp_path, "ppo.value_warmup_steps=1", "ppo.value_learning_rate=5e-3", *SEVERAL)
    policy = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    critic = {name: p.detach().clone() for name, p in trainer.critic.named_parameters() if p.requires_grad}
    output = trainer.training_step(trainer.next_data())
    assert all(torch.equal(policy[name], p) for name, p in trainer.model.named_parameters())
    assert all(not torch.equal(critic[name], p) for name, p in trainer.critic.named_parameters() if name in critic)
    rates = {group["model"]: group["lr_scale"] for group in trainer.optimizer.param_groups}
    assert rates == {"model": 0.0, "critic": 0.5}
    trainer.global_step = output.step
    trainer.training_step(trainer.next_data())
    assert any(not torch.equal(policy[name], p) for name, p in trainer.model.named_parameters())


def test_the_coefficient_of_kl_follows_its_target_and_outlives_a_resume(tmp_path: Path) -> None:
    options = ["ppo.kl_target=0.001", "ppo.kl_horizon=100", "training.total_steps=4", *SEVERAL]
    whole = with_saver(build(config := tiny_config(tmp_path, "ppo", *options), open_strategy(config)), tmp_path / "a")
    whole.train()
    half = with_saver(build(config, open_strategy(config)), tmp_path / "b")
    half.total_steps = 2
    half.train()
    half.save_checkpoint()
    again = with_saver(build(config, open_strategy(config)), tmp_path / "b")
    assert again.load_checkpoint() == 2
    again.train()
    assert again.kl_coefficient == whole.kl_coefficient > 0.05  # type: ignore[attr-defined]
    for label in ("model", "critic"):
        pairs = zip(again.parts.models[label].parameters(), whole.parts.models[label].parameters(), strict=True)
        assert all(torch.equal(found, wanted) for found, wanted in pairs)


def test_the_metrics_of_a_step_have_their_names(tmp_path: Path) -> None:
    trainer = made(tmp_path)
    metrics = trainer.training_step(trainer.next_data()).metrics
    wanted = """policy_loss value_loss value_clip_fraction entropy kl approx_kl ratio/mean ratio/min ratio/max
    clip_fraction/low clip_fraction/high advantages/mean advantages/std explained_variance returns/mean values/mean
    kl_coefficient reward/mean response/tokens_mean rollout/mismatch_max rollout/mismatch_k1 rollout/mismatch_k3"""
    assert set(wanted.split()) <= set(metrics)
    assert metrics["rollout/mismatch_max"] < 1e-5 and math.isfinite(metrics["explained_variance"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (["ppo.critic=shared", "ppo.value_warmup_steps=3"], "are for critic: separate"),
        (["ppo.kl_coefficient=0", "ppo.kl_target=0.1"], "kl_target: adapts kl_coefficient, which is 0"),
        (["ppo.dual_clip=0.5"], "dual_clip is a ratio above 1"),
    ],
)
def test_options_that_contradict_each_other_are_told(tmp_path: Path, override: list[str], words: str) -> None:
    config = tiny_config(tmp_path, "ppo", *override)
    with pytest.raises(ConfigError, match=words):
        build(config, open_strategy(config))
