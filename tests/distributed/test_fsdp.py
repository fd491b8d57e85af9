"""Sharded training against one process: the same losses, the same weights, the same checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ostinato.core.config import load_config
from ostinato.distributed.shards import whole
from ostinato.training.build import build, open_strategy
from ostinato.training.state import named_weights
from tests.distributed.ranks import run
from tests.training.tiny import write_config

STEPS = 20
TASKS = ["pretrain", "sft", "dpo", "kto", "reward_model", "grpo", "ppo", "distill"]
MESHES = {"2": (2, []), "4": (4, []), "2x2": (4, ["distributed.replicate=2"])}
ONE = ["training.micro_batch_size=2", f"training.total_steps={STEPS}"]


def trained(folders: list[Path], overrides: list[str]) -> list[dict[str, Any]]:
    """Losses, norms and held-out metrics of the experiment in each folder, and its last weights, on this rank."""
    configs = [load_config(folder / "tiny.yaml", [*ONE, *overrides]) for folder in folders]
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


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for task in TASKS:
        found[task] = tmp_path_factory.mktemp(task)
        write_config(found[task], task)
    return found


@pytest.fixture(scope="module")
def alone(folders: dict[str, Path]) -> list[dict[str, Any]]:
    return trained(list(folders.values()), [])


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
def test_losses_are_those_of_one_process(
    mesh: str, folders: dict[str, Path], alone: list[dict[str, Any]], tmp_path: Path
) -> None:
    ranks, options = MESHES[mesh]
    strategy = ["distributed.strategy=fsdp", *options]
    results = run(trained, ranks, tmp_path / "ranks", list(folders.values()), strategy)
    assert all(result == results[0] for result in results[1:])
    for task, one, other in zip(TASKS, alone, results[0], strict=True):
        for row, expected in zip(other["losses"], one["losses"], strict=True):
            assert row == pytest.approx(expected, rel=1e-5, abs=1e-5), task
        assert other["held_out"] == pytest.approx(one["held_out"], rel=1e-4, abs=1e-5, nan_ok=True), task
        for name, values in one["weights"].items():
            assert other["weights"][name] == pytest.approx(values, rel=1e-3, abs=1e-4), (task, name)
