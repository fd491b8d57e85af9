"""A checkpoint knows nothing of ranks: saved on two, it is the same on four and on one, and training goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ostinato.core import manifest as manifests
from ostinato.core.config import load_config
from ostinato.training.build import build, open_strategy
from ostinato.training.checkpoint import Snapshot, write_checkpoint
from ostinato.training.hooks import Average
from ostinato.training.state import collect, restore
from ostinato.training.tensor_files import describe
from ostinato.training.trainer import BaseTrainer
from tests.distributed.ranks import run
from tests.training.tiny import write_config

OPTIONS = ["training.micro_batch_size=1", "training.ema_decay=0.5", "generation.max_new_tokens=3", "model.width=18"]
OPTIONS += ["model.heads=3", "model.head_width=6"]  # rows that two and four ranks share unequally
SHARDED = "distributed.strategy=fsdp"


def hashes(tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    return {name: describe(tensor)["xxh3"] for name, tensor in tensors.items()}


def trained(folder: Path, overrides: list[str], source: str = "", target: str = "") -> dict[str, Any]:
    """Train to step 6 from a checkpoint `source` or the start; the state of step 3 goes to `target`."""
    config = load_config(folder / "tiny.yaml", [*OPTIONS, *overrides])
    strategy = open_strategy(config)
    found: dict[str, Any] = {"losses": {}}
    try:
        trainer = build(config, strategy).trainer
        trainer.add_hook(Average(trainer.model, 0.5))
        if source:
            manifest = manifests.read_checkpoint(Path(source))
            restore(trainer, Path(source), manifest)
            found["loaded"] = hashes(collect(trainer)[0])

        def note(trainer: BaseTrainer, output: Any) -> None:
            found["losses"][str(output.step)] = output.loss
            if output.step == 3 and target:
                tensors, state = collect(trainer)
                if strategy.is_main:
                    write_checkpoint(Path(target), Snapshot(3, tensors, {}, state, {}), lambda: None)

        trainer.add_hook(note)
        trainer.train()
        found["last"] = hashes(collect(trainer)[0])
    finally:
        strategy.close()
    return found


@pytest.mark.slow
def test_two_ranks_four_ranks_one(tmp_path: Path) -> None:
    write_config(tmp_path, "ppo")
    step = tmp_path / "checkpoints" / "step_00000003"
    whole = run(trained, 2, tmp_path / "whole", tmp_path, [SHARDED], "", str(step.parent))[0]
    stored = {name: entry["xxh3"] for name, entry in manifests.read_checkpoint(step)["tensors"].items()}
    assert len([name for name in stored if name.startswith("algorithm/models/critic/")]) > 5
    assert len([name for name in stored if name.startswith("algorithm/hooks/average/")]) > 5

    again = run(trained, 2, tmp_path / "again", tmp_path, [SHARDED], str(step))[0]
    assert again["loaded"] == stored
    assert again["last"] == whole["last"]  # the same bits as without interruption
    rest = {step: loss for step, loss in whole["losses"].items() if int(step) > 3}
    assert again["losses"] == rest

    four = run(trained, 4, tmp_path / "four", tmp_path, [SHARDED, "distributed.replicate=2"], str(step))[0]
    assert four["loaded"] == stored
    assert four["losses"] == pytest.approx(rest, rel=1e-5, abs=1e-5)

    torch.set_num_threads(1)
    one = trained(tmp_path, [], str(step))
    assert one["loaded"] == stored
    assert one["losses"] == pytest.approx(rest, rel=1e-5, abs=1e-5)
