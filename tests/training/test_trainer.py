"""The loop: what must not change bits, averages, moving back, and what a step says when it goes wrong."""

import random
from pathlib import Path

import numpy
import pytest
import torch
from torch import Tensor

from ostinato.core.errors import OstinatoError
from ostinato.core.registry import ALGORITHMS
from ostinato.core.stopping import StopFlag, StopRequested
from ostinato.core.types import StepOutput
from ostinato.data.prompts import Prompts
from ostinato.training.build import Built, build, open_strategy
from ostinato.training.checkpoint_folder import Checkpoints, Retention
from ostinato.training.guards import NotFinite, Rewind
from ostinato.training.hooks import Average
from ostinato.training.saver import Saver
from ostinato.training.trainer import BaseTrainer
from tests.training.tiny import algorithms, tiny_config

DROPOUT = ("model.dropout=0.1", "training.micro_batch_size=3")


def made(folder: Path, algorithm: str, *overrides: str, stop: StopFlag | None = None) -> Built:
    config = tiny_config(folder, algorithm, *overrides)
    return build(config, open_strategy(config), stop=stop)


def weights(trainer: BaseTrainer) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def trained(folder: Path, algorithm: str, *overrides: str, disturb: bool = False) -> dict[str, Tensor]:
    trainer = made(folder, algorithm, *overrides).trainer
    if disturb:
        trainer.add_hook(use_global_generators)
    trainer.train()
    return weights(trainer)


def use_global_generators(trainer: BaseTrainer, output: StepOutput) -> None:
    """What a user's hook might do."""
    random.random(), numpy.random.rand(output.step), torch.rand(3)


def assert_equal(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert all(torch.equal(found[name], weight) for name, weight in wanted.items())


@pytest.mark.parametrize("algorithm", algorithms())
def test_disturbed_generators_and_loader_threads_change_no_bit(tmp_path: Path, algorithm: str) -> None:
    wanted = trained(tmp_path, algorithm, *DROPOUT)
    assert_equal(trained(tmp_path, algorithm, *DROPOUT, disturb=True), wanted)
    assert_equal(trained(tmp_path, algorithm, *DROPOUT, "data.workers=0"), wanted)
    assert_equal(trained(tmp_path, algorithm, *DROPOUT, "data.workers=3", "data.prefetch=5"), wanted)
    other = trained(tmp_path, algorithm, *DROPOUT, "experiment.seed=4")
    assert not torch.equal(other["model.embed_tokens.weight"], wanted["model.embed_tokens.weight"])


@pytest.mark.parametrize("algorithm", algorithms())
def test_recomputation_changes_no_bit_even_with_dropout(tmp_path: Path, algorithm: str) -> None:
    wanted = trained(tmp_path, algorithm, *DROPOUT)
    assert_equal(trained(tmp_path, algorithm, *DROPOUT, "training.gradient_checkpointing=true"), wanted)


@pytest.mark.parametrize("algorithm", algorithms())
def test_bf16_keeps_fp32_weights_and_learns_nearly_the_same(tmp_path: Path, algorithm: str) -> None:
    found = trained(tmp_path, algorithm, "training.mixed_precision=bf16")
    wanted = trained(tmp_path, algorithm)
    samples = ALGORITHMS.get(algorithm).sample_format is Prompts  # what is sampled in bf16 are other responses
    for name, weight in wanted.items():
        assert found[name].dtype == torch.float32
        distance = (found[name] - weight).abs()
        assert distance.max() < (0.5 if samples else 0.12)  # updates of at most 1e-2 either way
        assert samples or (distance < 0.02).float().mean() > 0.95, name
    assert not torch.equal(found["model.embed_tokens.weight"], wanted["model.embed_tokens.weight"])


def test_averaged_weights_follow_their_formula(tmp_path: Path) -> None:
    trainer = made(tmp_path, "pretrain").trainer
    average = Average(trainer.model, decay=0.75)
    expected = weights(trainer)["model.norm.weight"].double()
    seen: list[Tensor] = []
    trainer.add_hook(lambda t, _: seen.append(weights(t)["model.norm.weight"].double()))
    trainer.add_hook(average)
    trainer.train()
    for weight in seen:
        expected = 0.75 * expected + 0.25 * weight
    torch.testing.assert_close(average.weights["model.norm.weight"].double(), expected, rtol=1e-6, atol=1e-7)
    before, averaged = weights(trainer), {name: weight.clone() for name, weight in average.weights.items()}
    with average.swapped(trainer.model):
        assert_equal(weights(trainer), averaged)
    assert_equal(weights(trainer), before)
    assert_equal(dict(average.weights), averaged)


def test_hooks_come_when_due_and_after_the_last_step(tmp_path: Path) -> None:
    trainer = made(tmp_path, "pretrain", "training.total_steps=5").trainer
    seen: list[tuple[str, int]] = []
    for name, every in (("each", 1), ("second", 2), ("end", 0)):
        trainer.add_hook(lambda _, output, name=name: seen.append((name, output.step)), every=every)
    trainer.train()
    assert [step for name, step in seen if name == "each"] == [1, 2, 3, 4, 5]
    assert [step for name, step in seen if name == "second"] == [2, 4, 5]
    assert [step for name, step in seen if name == "end"] == [5]


def with_saver(built: Built, folder: Path) -> BaseTrainer:
    trainer = built.trainer
    checkpoints = Checkpoints(folder / "checkpoints", Retention(), lambda *_, **__: None)
    trainer.parts.saver = Saver(checkpoints, {"run": {"id": "r", "name": "n"}}, built.model_files)
    trainer.add_hook(trainer.parts.saver)
    return trainer


def test_a_stop_drops_the_step_under_way_and_saves_the_last_whole_one(tmp_path: Path) -> None:
    stop = StopFlag()
    built = made(tmp_path, "sft", "training.micro_batch_size=1", stop=stop)
    trainer = with_saver(built, tmp_path)
    whole = trained(tmp_path, "sft", "training.micro_batch_size=1")
    loss, calls = trainer.compute_loss, []

    def interrupted(batch: object) -> object:
        calls.append(batch)
        stop.number = 15 if len(calls) == 10 else 0
        return loss(batch)

    trainer.compute_loss = interrupted  # type: ignore[method-assign, assignment]
    with pytest.raises(StopRequested):
        trainer.train()
    trainer.save_checkpoint()
    again = with_saver(made(tmp_path, "sft", "training.micro_batch_size=1"), tmp_path)
    assert again.load_checkpoint() == trainer.global_step >= 1
    again.train()
    assert_equal(weights(again), whole)


def test_a_rewind_goes_back_and_reads_on_behind_the_offending_step(tmp_path: Path) -> None:
    trainer = with_saver(made(tmp_path, "pretrain", "training.total_steps=6"), tmp_path)
    trainer.saver.every = 2
    allows, data = trainer.parts.guard.allows, []

    def jumpy(step: int, *rest: object) -> bool:
        data.append((step, trainer.step_data.data))  # type: ignore[union-attr]
        if step == 4 and not trainer.plan_skips:
            raise Rewind
        return allows(step, *rest)  # type: ignore[arg-type]

    trainer.parts.guard.allows = jumpy  # type: ignore[method-assign, assignment]
    trainer.train()
    assert [step for step, _ in data] == [1, 2, 3, 4, 3, 4, 5, 6]
    assert trainer.plan_skips == [(3, 2)]  # steps 3 and 4 of the plan are passed over
    seen = [digest for _, digest in data]
    assert len(set(seen)) == len(seen)  # nothing that was read before is read again


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    trainer = made(tmp_path, "pretrain").trainer
    with torch.no_grad():
        dict(trainer.model.named_parameters())["model.norm.weight"][0] = float("inf")
    with pytest.raises(NotFinite, match=r"step 1: loss (nan|inf).*not finite in micro-batch 0; first bad parameter"):
        trainer.train()
    assert trainer.global_step == 0 and not trainer.optimizer.state


def test_metrics_must_have_the_same_names_in_each_micro_batch(tmp_path: Path) -> None:
    trainer = made(tmp_path, "sft", "training.micro_batch_size=1").trainer
    loss, calls = trainer.compute_loss, []

    def unsteady(batch: object) -> object:
        output = loss(batch)
        calls.append(output)
        if len(calls) == 2:
            output.metrics.pop("entropy")
        return output

    trainer.compute_loss = unsteady  # type: ignore[method-assign, assignment]
    with pytest.raises(ValueError, match="compute_loss returned the metrics"):
        trainer.train()


def test_a_trainer_without_a_run_says_that_it_cannot_save(tmp_path: Path) -> None:
    with pytest.raises(OstinatoError, match="without a folder for checkpoints"):
        made(tmp_path, "pretrain").trainer.save_checkpoint()
