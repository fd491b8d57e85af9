"""dpo, kto, reward_model: values by loops over single documents; invariance where policy and reference differ."""

import functools
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ostinato.algorithms.dpo import is_pair_loss, pair_scores
from ostinato.algorithms.reward_model import reward_metrics
from ostinato.core.errors import RefusedError, UserError
from ostinato.core.mistakes import ConfigError
from ostinato.core.registry import LOSSES
from ostinato.core.types import Totals
from ostinato.data.batches import IGNORE, TokenBatch
from ostinato.data.pairs import PreferenceBatch
from ostinato.losses.pair_scores import PairScores
from ostinato.training.build import build, open_strategy
from ostinato.training.checkpoint_folder import Checkpoints, Retention
from ostinato.training.hooks import Average, Evaluate
from ostinato.training.saver import Saver
from ostinato.training.weights import load_run_model
from tests.algorithms.moved import gradient_when_moved, moved
from tests.numerics import reference_rl
from tests.training.tiny import tiny_config, write_config

NO_CLIP = "training.max_grad_norm=null"
PAIR_LOSSES = [name for name in LOSSES.names() if is_pair_loss(name)]
REFERENCE_FREE = ["cpo", "orpo", "simpo"]
CUTS = ["training.micro_batch_size=1", "training.micro_batch_size=3", "data.packing=false"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("preference")


def first_batches(trainer) -> list:
    data = next(trainer.parts.open_loader([]).steps(1))
    with torch.no_grad():
        return trainer.prepare_step(data.micro_batches)


def documents(batch: TokenBatch) -> list[tuple[list[int], list[int]]]:
    """(ids, places of the trained ones) of each document of a packed batch."""
    found = []
    for row in range(len(batch.tokens)):
        for number in range(int(batch.documents[row].max()) + 1):
            columns = torch.nonzero(batch.documents[row] == number).flatten()
            labels = batch.labels[row][columns].tolist()
            found.append((batch.tokens[row][columns].tolist(), [i + 1 for i, x in enumerate(labels) if x != IGNORE]))
    return found


@torch.no_grad()
def log_probs_alone(model, ids: list[int], trained: list[int]) -> np.ndarray:
    """Of the trained tokens of one document, by itself, in float64 from plain logits."""
    logits = model(torch.tensor([ids]))[0].double().log_softmax(-1)
    return np.array([logits[place - 1, ids[place]].item() for place in trained])


# ---- dpo


@pytest.mark.parametrize("loss", PAIR_LOSSES)
def test_dpo_equals_a_loop_over_single_documents(folder: Path, loss: str) -> None:
    trainer = moved(tiny_config(folder, "dpo", f"dpo.loss={loss}"))
    (batch,) = first_batches(trainer)
    batch.totals = Totals(batch.counts())
    own = [log_probs_alone(trainer.model, *document) for document in documents(batch.tokens)]
    sums, sizes = np.array([p.sum() for p in own]), np.array([float(len(p)) for p in own])
    numbers = [sums[0::2], sums[1::2], sizes[0::2], sizes[1::2]]
    assert (trainer.reference is None) == (loss in REFERENCE_FREE)
    if trainer.reference is not None:
        theirs = [log_probs_alone(trainer.reference, *document) for document in documents(batch.tokens)]
        gains = np.array([(p - q).sum() for p, q in zip(own, theirs, strict=True)])
        numbers += [gains[0::2], gains[1::2]]
    expected = LOSSES.get(loss)(PairScores(*map(torch.tensor, numbers))).mean().item()
    if loss == "cpo":
        expected -= sums[0::2].sum() / sizes[0::2].sum()
    assert trainer.compute_loss(batch).loss.item() == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize(
    "option", ["dpo.divergence=js", "training.mixed_precision=bf16", "training.gradient_checkpointing=true"]
)
def test_the_first_loss_is_ln_2_even_of_a_model_with_dropout(folder: Path, option: str) -> None:
    config = tiny_config(folder, "dpo", "model.dropout=0.5", option)
    trainer = build(config, open_strategy(config)).trainer
    output = trainer.training_step(next(trainer.parts.open_loader([]).steps(1)))
    assert output.loss == pytest.approx(math.log(2), abs=1e-6)
    assert output.metrics["rewards/chosen"] == pytest.approx(0.0, abs=1e-6)


def test_metrics_have_their_names_and_units(folder: Path) -> None:
    trainer = moved(tiny_config(folder, "dpo", "dpo.beta=0.5", "training.micro_batch_size=2"))
    output = trainer.training_step(next(trainer.parts.open_loader([]).steps(1)))
    names = """rewards/chosen rewards/rejected rewards/margin rewards/accuracy log_probs/chosen log_probs/rejected
    nll entropy"""
    assert set(output.metrics) == set(names.split())
    trainer = moved(tiny_config(folder, "dpo", "dpo.beta=0.5"))
    (batch,) = first_batches(trainer)
    own = [log_probs_alone(trainer.model, *document) for document in documents(batch.tokens)]
    theirs = [log_probs_alone(trainer.reference, *document) for document in documents(batch.tokens)]
    chosen, rejected = ([0.5 * (p - q).sum() for p, q in zip(own[k::2], theirs[k::2], strict=True)] for k in (0, 1))
    expected = {
        "rewards/chosen": np.mean(chosen),
        "rewards/margin": np.mean(chosen) - np.mean(rejected),  # beta once
        "rewards/accuracy": np.mean(np.array(chosen) > np.array(rejected)),
        "log_probs/rejected": np.mean([p.sum() for p in own[1::2]]),
        "nll": -np.concatenate(own[0::2]).mean(),
    }
    for name, value in expected.items():
        assert output.metrics[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize(("loss", "scale", "mean"), [("simpo", 2.0, True), ("cpo", 0.1, False), ("orpo", 0.1, True)])
def test_rewards_without_reference_are_the_losss_own(folder: Path, loss: str, scale: float, mean: bool) -> None:
    trainer = moved(tiny_config(folder, "dpo", f"dpo.loss={loss}"))
    (batch,) = first_batches(trainer)
    own = [log_probs_alone(trainer.model, *document) for document in documents(batch.tokens)][0::2]
    output = trainer.training_step(next(trainer.parts.open_loader([]).steps(1)))
    expected = scale * np.mean([p.mean() if mean else p.sum() for p in own])
    assert output.metrics["rewards/chosen"] == pytest.approx(expected, rel=1e-4)


def test_gains_are_subtracted_per_token_then_summed() -> None:
    size = 4000
    log_probs = -7.0 - torch.rand(2 * size, generator=torch.Generator().manual_seed(0))
    step = torch.where(torch.arange(2 * size) < size, 2e-6, -2e-6)
    tokens = TokenBatch(torch.ones(2, size, dtype=torch.int64), torch.ones(2, size, dtype=torch.int64))
    batch = PreferenceBatch(tokens, torch.zeros(2), torch.zeros(1), np.array([size]), reference=log_probs - step)
    exact = (log_probs.double() - batch.reference.double()).reshape(2, size).sum(1)
    pairs = pair_scores(batch, log_probs)
    assert [pairs.chosen_gain.item(), pairs.rejected_gain.item()] == pytest.approx(exact.tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["dpo.gamma=1.0"], "dpo.gamma: not an option of sigmoid; it belongs to simpo"),
        (["dpo.loss=ipo", "dpo.divergence=js"], "belongs to discopop, exo_pair, hinge, robust, sigmoid"),
        (["dpo.alpha=0.5"], "belongs to dpo.divergence: alpha"),
        (["dpo.loss=nll"], "nll is no loss over pairs. Known: apo_down"),
        (["dpo.loss=sigmod"], "Did you mean sigmoid"),
    ],
)
def test_options_of_other_losses_are_refused(folder: Path, options: list[str], says: str) -> None:
    config = tiny_config(folder, "dpo", *options)
    with pytest.raises(UserError, match=says):
        build(config, open_strategy(config))


@pytest.mark.parametrize("options", [["robust", "label_smoothing=0.5"], ["discopop", "tau=0.0"]])
def test_values_without_meaning_are_refused_before_the_first_step(folder: Path, options: list[str]) -> None:
    config = tiny_config(folder, "dpo", f"dpo.loss={options[0]}", f"dpo.{options[1]}")
    with pytest.raises(ConfigError, match=options[1].split("=")[0]):
        build(config, open_strategy(config))


@functools.cache
def whole(folder: Path, algorithm: str, *overrides: str) -> dict[str, Tensor]:
    return gradient_when_moved(tiny_config(folder, algorithm, NO_CLIP, *overrides))


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """The whole gradient to 1e-6, each metric to 1e-5."""
    assert set(found) == set(wanted)
    metrics = [name for name in wanted if name.startswith("metric")]
    for name in metrics:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-6, msg=name, equal_nan=True)
    flat = [
        torch.cat([one[n].double().flatten() for n in sorted(set(wanted) - set(metrics))]) for one in (found, wanted)
    ]
    assert (flat[0] - flat[1]).norm() / flat[1].norm() < 1e-6


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("dpo", ()),
        ("dpo", ("dpo.loss=cpo",)),
        ("dpo", ("dpo.nll_weight=0.7", "dpo.loss=ipo")),
        ("dpo", ("dpo.loss=orpo",)),
        ("kto", ("kto.beta=0.7",)),
        ("reward_model", ("reward_model.center_coefficient=0.3",)),
    ],
)
def test_cuts_change_nothing_where_policy_and_reference_differ(
    folder: Path, algorithm: str, options: tuple[str, ...], cut: str
) -> None:
    found = gradient_when_moved(tiny_config(folder, algorithm, NO_CLIP, *options, cut, "evaluation.batch_size=1"))
    assert_same(found, whole(folder, algorithm, *options))


@pytest.mark.parametrize("algorithm", ["kto", "reward_model"])
def test_ranks_change_nothing_either(folder: Path, algorithm: str) -> None:
    """Three rows a micro-batch on two real processes: one rank has another number of examples than the other."""
    config, output = write_config(folder, algorithm), folder / f"{algorithm}.safetensors"
    overrides = [NO_CLIP, "distributed.strategy=ddp", "training.micro_batch_size=3"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.algorithms.moved", str(config), str(output), *overrides]
    ranks = [
        subprocess.Popen(command, env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in ranks] == [0, 0]
    assert_same(load_file(output), whole(folder, algorithm))


def step_metrics(trainer) -> dict[str, float]:
    output = trainer.training_step(next(trainer.parts.open_loader([]).steps(1)))
    return {"loss": output.loss, **output.metrics, **trainer.evaluate()}


@pytest.mark.parametrize("packing", ["data.packing=true", "data.packing=false"])
def test_a_precomputed_reference_is_as_good_as_a_live_one(folder: Path, packing: str) -> None:
    def built(*overrides: str):
        config = tiny_config(folder, "dpo", packing, "training.micro_batch_size=2", "dpo.nll_weight=0.5", *overrides)
        return build(config, open_strategy(config)).trainer

    live, before = built(), built("dpo.precompute_reference=true")
    assert before.reference is None
    first = step_metrics(before)
    assert first == pytest.approx(step_metrics(live), rel=1e-5, abs=1e-6)
    found = step_metrics(before)  # after an update
    assert found["rewards/chosen"] != 0.0 and found == pytest.approx(step_metrics(live), rel=1e-3, abs=1e-5)
    assert step_metrics(built("dpo.precompute_reference=true")) == first  # from the cache now


def test_a_precomputed_reference_that_differs_is_refused(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("OSTINATO_CACHE", str(tmp_path))
    config = tiny_config(folder, "dpo", "dpo.precompute_reference=true")
    build(config, open_strategy(config))
    files = list(tmp_path.glob("references/*/values.npy"))
    assert len(files) == 2  # of what is trained on, and of what is held out
    for file in files:
        values = np.load(file)
        values[3] += 2e-4
        np.save(file, values)
    with pytest.raises(RefusedError, match="differ by 0.0002 from what it gives now"):
        build(config, open_strategy(config))
    other = tiny_config(folder, "dpo", "dpo.precompute_reference=true", "experiment.seed=4")
    build(other, open_strategy(other))  # another model has a folder of its own
    assert len(list(tmp_path.glob("references/*/values.npy"))) == 4


def test_what_has_no_reference_cannot_precompute_it(folder: Path) -> None:
    config = tiny_config(folder, "dpo", "dpo.loss=simpo", "dpo.precompute_reference=true")
    with pytest.raises(UserError, match="simpo has no reference"):
        build(config, open_strategy(config))


# ---- kto


def test_kto_equals_a_loop_over_single_documents(folder: Path) -> None:
    trainer = moved(tiny_config(folder, "kto", "kto.desirable_weight=1.5", "kto.undesirable_weight=0.5"))
    data = next(trainer.parts.open_loader([]).steps(1))
    with torch.no_grad():
        (batch,) = trainer.prepare_step(data.micro_batches)
    gains = [
        [
            (log_probs_alone(trainer.model, *one) - log_probs_alone(trainer.reference, *one)).sum()
            for one in documents(rows)
        ]
        for rows in (batch.tokens, batch.mismatched)
    ]
    z = reference_rl.kto_baseline(np.array(gains[1]))
    assert z > 0.1 and batch.baseline.item() == pytest.approx(z, rel=1e-4) and not batch.baseline.requires_grad
    losses = reference_rl.kto(np.array(gains[0]), batch.desirable.numpy(), z, 0.1, 1.5, 0.5)
    output = trainer.training_step(data)
    assert output.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert output.metrics["kl_baseline"] == pytest.approx(z, rel=1e-4)
    good = batch.desirable.numpy()
    assert output.metrics["rewards/desirable"] == pytest.approx(0.1 * np.array(gains[0])[good].mean(), rel=1e-4)
    assert output.metrics["rewards/undesirable"] == pytest.approx(0.1 * np.array(gains[0])[~good].mean(), rel=1e-4)


def test_the_baseline_is_the_clamped_mean_of_the_whole_step(folder: Path) -> None:
    trainer = moved(tiny_config(folder, "kto", "training.micro_batch_size=1"))
    batches = first_batches(trainer)
    assert {batch.tokens.sequences for batch in batches} != {1}
    means = [trainer.mismatched_gain(batch.mismatched).item() / len(batch.desirable) for batch in batches]
    assert len({batch.baseline.item() for batch in batches}) == 1 and len(batches) > 1
    total = sum(mean * len(batch.desirable) for mean, batch in zip(means, batches, strict=True))
    count = sum(len(batch.desirable) for batch in batches)
    assert batches[0].baseline.item() == pytest.approx(max(0.0, total / count), rel=1e-5) and total > 0
    fresh = build(trainer.config, open_strategy(trainer.config)).trainer
    assert first_batches(fresh)[0].baseline.item() == 0.0


def test_a_step_of_one_example_is_refused(folder: Path) -> None:
    config = tiny_config(folder, "kto", "training.batch_size=1")
    with pytest.raises(ConfigError, match="two examples"):
        build(config, open_strategy(config))


# ---- reward model


def rewards_alone(trainer, batch: PreferenceBatch) -> list[float]:
    """The score on the last token of each document, each by itself."""
    with torch.no_grad():
        return [trainer.model(torch.tensor([ids]))[0, -1].item() for ids, _ in documents(batch.tokens)]


@pytest.mark.parametrize("cut", ["training.micro_batch_size=2", "data.packing=false"])
def test_rewards_are_read_at_the_end_of_each_document(folder: Path, cut: str) -> None:
    trainer = moved(tiny_config(folder, "reward_model", cut, "reward_model.center_coefficient=0.5"))
    assert trainer.parts.data.format._pad == trainer.tokenizer.eos_id  # padding looks like the true end
    losses, seen = [], []
    for batch in first_batches(trainer):
        rows = batch.tokens
        found = trainer.model(rows.tokens, rows.positions, rows.documents, trained=batch.ends)
        alone = rewards_alone(trainer, batch)
        assert found.tolist() == pytest.approx(alone, rel=1e-4, abs=1e-5)
        seen += alone
        chosen, rejected = np.array(alone[0::2]), np.array(alone[1::2])
        losses += (
            np.logaddexp(0, -(chosen - rejected - batch.margins.numpy())) + 0.5 * (chosen + rejected) ** 2
        ).tolist()
    output = trainer.training_step(next(trainer.parts.open_loader([]).steps(1)))
    assert output.loss == pytest.approx(np.mean(losses), rel=1e-5)
    difference = np.array(seen[0::2]) - np.array(seen[1::2])
    expected = {
        "accuracy": (difference > 0).mean(),
        "margin": difference.mean(),
        "reward/mean": np.mean(seen),
        "reward/std": np.std(seen),
    }
    for name, value in expected.items():
        assert output.metrics[name] == pytest.approx(value, rel=1e-4), name
    assert set(output.metrics) == {*expected, "calibration"}


def test_calibration_by_hand(folder: Path) -> None:
    """Two pairs 73 % sure, one of them wrong, and one 95 % sure and right."""
    gap = [math.log(0.73 / 0.27), -math.log(0.73 / 0.27), math.log(0.95 / 0.05)]
    rewards = torch.tensor([x for d in gap for x in (d, 0.0)], dtype=torch.float64)
    trainer = moved(tiny_config(folder, "reward_model"))
    metrics = {name: float(mean.total) / mean.count for name, mean in reward_metrics(rewards).items()}
    found = trainer.derive({"loss": 0.0, **metrics})["calibration"]
    assert found == pytest.approx((abs(2 * 0.73 - 1) + abs(0.95 - 1)) / 3, rel=1e-9)


def test_two_builds_draw_the_same_head(folder: Path) -> None:
    config = tiny_config(folder, "reward_model")
    first, second = (build(config, open_strategy(config)).trainer.model for _ in range(2))
    assert torch.equal(first.score.weight, second.score.weight) and first.score.bias is None
    assert first.score.weight.std() > 0


def saved(folder: Path, trainer, built) -> Path:
    trainer.parts.saver = Saver(
        Checkpoints(folder / "checkpoints", Retention(), lambda *_, **__: None), {}, built.model_files
    )
    trainer.add_hook(trainer.saver)
    return folder


def test_moments_of_held_out_rewards_are_stored_with_the_model(folder: Path, tmp_path: Path) -> None:
    config = tiny_config(folder, "reward_model", "training.total_steps=3", "training.learning_rate=0.1")
    built = build(config, open_strategy(config))
    trainer, written = built.trainer, []
    average = Average(trainer.model, 0.5)
    trainer.add_hook(average)
    trainer.add_hook(Evaluate(lambda row, metrics: written.append(metrics), average))
    saved(tmp_path, trainer, built)
    trainer.train()
    last = written[-1]
    assert last["validation/reward/mean"] != last["validation/reward/mean_average"]
    model, _ = load_run_model(tmp_path)
    assert model.reward_mean.item() == pytest.approx(last["validation/reward/mean"], rel=1e-6)
    assert model.reward_std.item() == pytest.approx(last["validation/reward/std"], rel=1e-6)
    held_out = [trainer.parts.data.validation[n] for n in range(len(trainer.parts.data.validation))]
    ids = [document.ids.tolist() for pair in held_out for document in (pair.chosen, pair.rejected)]
    with torch.no_grad():
        rewards = np.array([model(torch.tensor([one]))[0, -1].item() for one in ids])
    assert model.reward_mean.item() == pytest.approx(rewards.mean(), rel=1e-4)
    assert model.reward_std.item() == pytest.approx(rewards.std(), rel=1e-4)
    share = (rewards[0::2] > rewards[1::2]).mean()
    assert last["validation/accuracy"] == share
    assert last["validation/accuracy_error"] == pytest.approx(math.sqrt(share * (1 - share) / len(held_out)))


def test_a_reward_model_starts_from_a_language_model_with_a_fresh_head(folder: Path, tmp_path: Path) -> None:
    language = tiny_config(folder, "sft", "training.total_steps=1")
    built = build(language, open_strategy(language))
    saved(tmp_path, built.trainer, built)
    built.trainer.train()
    config = tiny_config(folder, "reward_model", f"model.init_from={tmp_path}")
    started = build(config, open_strategy(config)).trainer.model
    fresh = build(tiny_config(folder, "reward_model"), open_strategy(config)).trainer.model
    weights = dict(built.trainer.model.named_parameters())
    for name, weight in started.named_parameters():
        assert torch.equal(weight, weights[name] if name in weights else dict(fresh.named_parameters())[name]), name
    assert started.reward_mean.item() == started.reward_std.item() == 0.0  # as long as nothing was evaluated
