"""GRPO's kin on real rollouts of a tiny model: presets, several updates, dynamic sampling, what is refused."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ostinato.algorithms.policy_gradient import clip_rule, policy_metrics
from ostinato.core.config import load_config
from ostinato.core.errors import UserError
from ostinato.core.mistakes import ConfigError
from ostinato.core.types import Mean
from ostinato.data.batches import TokenBatch
from ostinato.training.build import build, open_strategy
from ostinato.training.responses import RolloutBatch
from ostinato.training.trainer import BaseTrainer
from tests.training.gradient_of_step import gradient_of_step
from tests.training.test_invariance import NO_CLIP, assert_same
from tests.training.tiny import tiny_config, write_config

PRESETS = ["grpo", "dr_grpo", "dapo", "gspo", "cispo", "sapo", "rloo", "reinforce_plus_plus"]
SEVERAL = ["grpo.epochs=2", "grpo.minibatches=2"]


def preset(folder: Path, name: str, *overrides: str):  # type: ignore[no-untyped-def]
    """The tiny experiment with the options of configs/algorithms/NAME.yaml."""
    options = yaml.safe_load((Path("configs/algorithms") / f"{name}.yaml").read_text())["grpo"]
    own = [f"grpo.{key}={value}" for key, value in options.items() if key != "group_size"]
    return tiny_config(folder, "grpo", *own, "grpo.group_size=4", *overrides)


def trainer_of(config) -> BaseTrainer:  # type: ignore[no-untyped-def]
    trainer = build(config, open_strategy(config)).trainer
    trainer.perf, trainer._plan = {"data_wait_seconds": 0.0}, trainer.parts.open_loader([]).steps(1)
    return trainer


@pytest.mark.parametrize("name", PRESETS)
def test_the_gradient_of_a_preset_does_not_depend_on_micro_batches(tmp_path: Path, name: str) -> None:
    torch.set_num_threads(1)
    whole = gradient_of_step(preset(tmp_path, name, NO_CLIP))
    for cut in ("training.micro_batch_size=1", "training.micro_batch_size=5"):
        assert_same(gradient_of_step(preset(tmp_path, name, NO_CLIP, cut)), whole)
    padded = gradient_of_step(preset(tmp_path, name, NO_CLIP, "data.packing=false", "training.micro_batch_size=8"))
    assert_same(padded, whole)


@pytest.mark.parametrize("several", [[], SEVERAL])
def test_on_policy_the_ratio_is_exactly_one(tmp_path: Path, several: list[str]) -> None:
    trainer = trainer_of(
        tiny_config(tmp_path, "grpo", "generation.temperature=0.6", "training.learning_rate=0", *several)
    )
    output = trainer.training_step(trainer.next_data())
    # With one update the old log-probs are the live ones; with several they were computed before, in other batches.
    exact = 0.0 if not several else 2e-6
    assert output.metrics["ratio/min"] == pytest.approx(1.0, abs=exact)
    assert output.metrics["ratio/max"] == pytest.approx(1.0, abs=exact)
    assert output.metrics["rollout/mismatch_max"] < 1e-5
    assert output.metrics["kl"] == pytest.approx(0.0, abs=1e-6)


def test_the_metrics_of_a_step_have_their_names(tmp_path: Path) -> None:
    trainer = trainer_of(tiny_config(tmp_path, "grpo"))
    metrics = trainer.training_step(trainer.next_data()).metrics
    wanted = """reward/mean reward/std reward/unscorable_fraction rewards/ascii rewards/short response/tokens_mean
    response/tokens_min response/tokens_max response/truncated_fraction stop/eos stop/stop_string stop/length
    stop/context rollout/mismatch_max rollout/mismatch_k1 rollout/mismatch_k3 policy_loss entropy kl approx_kl
    ratio/mean ratio/min ratio/max clip_fraction/low clip_fraction/high advantages/mean advantages/std
    groups/zero_std_fraction groups/dropped groups/rounds"""
    assert set(wanted.split()) == set(metrics)
    assert {"rollout_seconds", "rollout_tokens_per_second", "prefill_tokens"} <= set(trainer.perf)
    assert all(np.isfinite(value) for value in metrics.values())


def test_dynamic_sampling_reads_on_until_the_groups_differ_and_a_resume_goes_on_from_there(tmp_path: Path) -> None:
    """Rewards of ascii alone: most groups of two are equal, so a step takes several rounds of prompts."""
    config = tiny_config(
        tmp_path,
        "grpo",
        "grpo.dynamic_sampling=true",
        "grpo.group_size=2",
        "rewards!={ascii: {name: format, pattern: '[ -~]*'}}",
    )
    trainer = trainer_of(config)
    output = trainer.training_step(trainer.next_data())
    assert output.metrics["groups/rounds"] > 1 and trainer.plan_read == output.metrics["groups/rounds"]
    assert output.metrics["groups/zero_std_fraction"] == 0.0
    groups = {one.sample.prompt for one in trainer.last_rollout}  # type: ignore[attr-defined]
    assert len(groups) <= config.training.batch_size
    assert max(groups) >= config.training.batch_size  # some came from a later round


def test_unscorable_responses_are_not_trained_and_a_step_without_any_is_skipped(tmp_path: Path) -> None:
    config = tiny_config(
        tmp_path, "grpo", "rewards!={gold: {name: exact_match, answer: nowhere}, short: {name: length}}"
    )
    trainer = trainer_of(config)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    output = trainer.training_step(trainer.next_data())
    assert output.skipped_updates == 1 and output.tokens == 0
    assert output.metrics["reward/unscorable_fraction"] == 1.0
    assert all(torch.equal(before[name], p) for name, p in trainer.model.named_parameters())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("grpo.ratio_max=5.0", "grpo.ratio_max: not an option of ppo_clip; it belongs to cispo"),
        ("grpo.group_size=1", "group_size: 1 leaves a group no baseline"),
        ("generation.top_k=5", "another distribution than the one that is trained"),
        ("generation.temperature=0", "generation.temperature: 0"),
        ("rewards={}", "rewards"),
        ("rewards={right: {name: exakt_match}}", "exact_match"),
    ],
)
def test_what_cannot_be_is_said_before_the_first_step(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises((UserError, ConfigError)) as found:
        config = load_config(write_config(tmp_path, "grpo"), [override.replace("rewards={}", "rewards!={}")])
        build(config, open_strategy(config))
    assert words in str(found.value)


@pytest.mark.parametrize(
    ("rule", "given", "bounds"),
    [
        ("ppo_clip", {}, (0.8, 1.2)),
        ("ppo_clip", {"clip_ratio": 0.1}, (0.9, 1.1)),
        ("ppo_clip", {"clip_ratio_high": 0.28}, (0.8, 1.28)),
        ("cispo", {}, (0.0, 5.0)),
        ("cispo", {"ratio_min": 0.5, "ratio_max": 2.0}, (0.5, 2.0)),
        ("sapo", {}, (0.0, math.inf)),
    ],
)
def test_what_counts_as_clipped_follows_from_the_rule(rule: str, given: dict, bounds: tuple) -> None:
    assert clip_rule("grpo", rule, given).bounds == pytest.approx(bounds)


def test_the_shares_of_clipped_tokens_by_hand() -> None:
    """Ratios 0.7, 0.7, 0.7, 1.5 with bounds 0.8 and 1.2: clipped are the two low ones whose advantage is negative and
    the high one, whose advantage is positive."""
    ratio, advantages = torch.tensor([0.7, 0.7, 0.7, 1.5]), torch.tensor([-1.0, -1.0, 1.0, 1.0])
    old, tokens = torch.zeros(4), TokenBatch(torch.zeros(1, 4).long(), torch.ones(1, 4).long())
    batch = RolloutBatch(tokens, behaviour=torch.tensor([0.0, math.nan, -0.5, 0.0]), reference=old)
    found = policy_metrics(batch, ratio.log(), torch.full((4,), 2.0), old, ratio, advantages, (0.8, 1.2))
    values = {name: one.total / one.count if isinstance(one, Mean) else one.value for name, one in found.items()}
    assert (float(values["clip_fraction/low"]), float(values["clip_fraction/high"])) == (0.5, 0.25)
    assert (float(values["ratio/min"]), float(values["ratio/max"])) == pytest.approx((0.7, 1.5))
    assert float(values["rollout/mismatch_max"]) == 0.5  # what is not known is no mismatch
    assert float(values["rollout/mismatch_k1"]) == pytest.approx(-0.5 / 4)
    assert float(values["rollout/mismatch_k3"]) == pytest.approx((math.exp(0.5) - 0.5 - 1) / 4)
    wanted = sum(r - 1 - math.log(r) for r in ratio.tolist()) / 4  # k3 of KL(old || policy)
    assert float(values["approx_kl"]) == pytest.approx(wanted)


def test_a_prompt_longer_than_the_context_is_named_before_the_first_step(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, "grpo", "data.sequence_length=8")
    with pytest.raises(UserError, match=r"prompts.jsonl:\d+: the prompt has \d+ tokens, which leaves no room in 8"):
        build(config, open_strategy(config))
