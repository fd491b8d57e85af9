"""Sharded training against one process: the same losses, the same weights, the same checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from ostinato.core.config import load_config
from ostinato.core.errors import UserError
from ostinato.distributed.fsdp import FullySharded
from ostinato.distributed.shards import laid_out_like, own, whole
from ostinato.training.build import build, open_strategy
from ostinato.training.guards import NotFinite
from ostinato.training.optimizers import named_parameters
from ostinato.training.state import named_weights
from tests.distributed.ranks import run
from tests.training.tiny import algorithms, write_config

STEPS = 20
MESHES = {"2": (2, []), "4": (4, []), "2x2": (4, ["distributed.replicate=2"])}
HALVES = {"one": algorithms()[0::2], "other": algorithms()[1::2]}
Case = tuple[str, list[str]]

VARIANTS: dict[str, Case] = {
    "recomputed, sgd": ("pretrain", ["training.gradient_checkpointing=true", "optimizer={name: sgd, momentum: 0.9}"]),
    "untied, lion": ("sft", ["model.tied_embeddings=false", "optimizer.name=lion", "training.learning_rate=1e-3"]),
    "reference computed before": ("dpo", ["dpo.precompute_reference=true"]),
    "one model with two heads": ("ppo", ["ppo.critic=shared"]),
    "ranks with unequal rollouts": ("grpo", ["grpo.dynamic_sampling=true", "grpo.epochs=2", "grpo.group_size=2"]),
    "reverse kl": ("distill", ["distill.objective=policy_gradient", "distill.on_policy_fraction=1.0"]),
    "adapter": ("sft", ["model.adapter={name: lora, rank: 4}"]),
    "adapter, reference": ("dpo", ["model.adapter={name: lora, rank: 4}"]),
}


def trained(cases: list[tuple[str, list[str]]], steps: int, overrides: list[str]) -> list[dict[str, Any]]:
    """Losses, norms and held-out metrics of the experiment in each folder, and its last weights, on this rank."""
    shared = ["training.micro_batch_size=2", f"training.total_steps={steps}", *overrides]
    configs = [load_config(f"{folder}/tiny.yaml", [*shared, *more]) for folder, more in cases]
    strategy = open_strategy(configs[0])
    found = []
    try:
        for one in configs:
            trainer = build(one, strategy).trainer
            losses: list[Any] = []
            trainer.add_hook(lambda _, output, into=losses: into.append([output.loss, output.grad_norm]))
            trainer.train()
            held_out = trainer.evaluate()
            weights = {n: whole(w).flatten().tolist() for n, w in named_weights(trainer.model).items()}
            found.append({"losses": losses, "held_out": held_out, "weights": weights})
    finally:
        strategy.close()
    return found


def compare(
    cases: Iterable[Case], folder: Path, steps: int, ranks: int, options: list[str], tolerance: float = 1e-5
) -> None:
    """What one process finds is what the ranks do."""
    torch.set_num_threads(1)
    placed = []
    for algorithm, overrides in cases:
        (folder / algorithm).mkdir(exist_ok=True)
        write_config(folder / algorithm, algorithm)
        placed.append((str(folder / algorithm), overrides))
    alone = trained(placed, steps, [])
    results = run(trained, ranks, folder / "ranks", placed, steps, ["distributed.strategy=fsdp", *options])
    assert all(result == results[0] for result in results[1:])
    for case, one, other in zip(placed, alone, results[0], strict=True):
        for row, expected in zip(other["losses"], one["losses"], strict=True):
            assert row == pytest.approx(expected, rel=tolerance, abs=tolerance), case
        close = {"rel": 10 * tolerance, "abs": tolerance, "nan_ok": True}
        assert other["held_out"] == pytest.approx(one["held_out"], **close), case
        for name, values in one["weights"].items():
            assert other["weights"][name] == pytest.approx(values, rel=1e-3, abs=10 * tolerance), (case, name)


@pytest.mark.slow
@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("mesh", MESHES)
def test_losses_are_those_of_one_process(mesh: str, half: str, tmp_path: Path) -> None:
    compare([(name, []) for name in HALVES[half]], tmp_path, STEPS, *MESHES[mesh])


@pytest.mark.slow
@pytest.mark.parametrize("names", [list(VARIANTS)[0::2], list(VARIANTS)[1::2]], ids=["one", "other"])
def test_variants(names: list[str], tmp_path: Path) -> None:
    options = ["distributed.reduce_every_micro_batch=true", "distributed.reshard_after_forward=false"]
    compare([VARIANTS[name] for name in names], tmp_path, 5, 2, options)


@pytest.mark.slow
def test_bf16_is_that_of_one_process_to_rounding(tmp_path: Path) -> None:
    compare([("sft", ["training.mixed_precision=bf16"])], tmp_path, 10, 2, [], tolerance=1e-3)


def held(folder: str, overrides: list[str]) -> dict[str, Any]:
    """What a rank has in memory once a model is built, and what it says of gradients that are set by hand."""
    config = load_config(f"{folder}/tiny.yaml", ["distributed.strategy=fsdp", *overrides])
    strategy = open_strategy(config)
    try:
        trainer = build(config, strategy).trainer
        parameters = list(trainer.model.parameters())
        for one in parameters:
            one.grad = laid_out_like(torch.ones(one.shape), one)
        found: dict[str, Any] = {
            "whole": sum(one.numel() for one in parameters),
            "own": sum(own(one).numel() for one in parameters),
            "memory": sum(own(one).untyped_storage().nbytes() for one in parameters),
            "norm": float(strategy.clip_grad_norm(parameters, 1.0)),
            "clipped": float(strategy.clip_grad_norm(parameters, None)),
            "state": strategy.state(),
        }
        bad = torch.ones(trainer.model.model.norm.weight.shape)
        bad[-1] = torch.nan  # on the last rank
        trainer.model.model.norm.weight.grad = laid_out_like(bad, trainer.model.model.norm.weight)
        try:
            trainer.parts.guard.allows(1, 0.5, float("nan"), [0.5], named_parameters(trainer.optimizer))
        except NotFinite as error:
            found["bad"] = str(error)
        try:
            build(load_config(f"{folder}/tiny.yaml", ["optimizer.name=muon"]), strategy)
        except UserError as error:
            found["muon"] = str(error)
    finally:
        strategy.close()
    return found


@pytest.mark.parametrize("mesh", ["2", "2x2"])
def test_a_rank_holds_its_part(mesh: str, tmp_path: Path) -> None:
    write_config(tmp_path, "pretrain")
    ranks, options = MESHES[mesh]
    results = run(held, ranks, tmp_path / "ranks", str(tmp_path), options)
    for found in results:
        most = 0.51 * found["whole"]  # rows of an odd number are not shared out equally
        assert found["own"] < most and found["memory"] < 4 * most
        assert found["norm"] == pytest.approx(math.sqrt(found["whole"]), rel=1e-6)
        assert found["clipped"] == pytest.approx(1.0, rel=1e-4)
        assert "first bad parameter: model.norm.weight" in found["bad"]
        assert "muon works on whole matrices" in found["muon"]
    layout = {"replicate": ranks // 2, "shard": 2, "tensor": 1}
    assert results[0]["state"] == {"size": ranks, "strategy": "fsdp", **layout}


def test_ranks_that_are_no_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    for shard, replicate in ((3, 1), (4, 2), (-1, 3), (-1, 8), (0, 1)):
        with pytest.raises(UserError, match="are not the 4 ranks"):
            FullySharded("cpu", shard=shard, replicate=replicate)
    with pytest.raises(UserError, match="cpu_offload"):
        FullySharded("cpu", cpu_offload=True)
