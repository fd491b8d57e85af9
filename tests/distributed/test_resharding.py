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


def begun(folders: list[str]) -> list[dict[str, str]]:
    """The weights of a model that starts from each folder, sharded."""
    configs = [
        load_config(f"{Path(folder).parent}/tiny.yaml", [f"model!={{init_from: {folder}}}"]) for folder in folders
    ]
    strategy = open_strategy(load_config(f"{Path(folders[0]).parent}/tiny.yaml", [SHARDED]))
    try:
        return [hashes(collect(build(config, strategy).trainer)[0]) for config in configs]
    finally:
        strategy.close()


@pytest.mark.slow
def test_foreign_folders_are_read_in_parts(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    write_config(tmp_path, "pretrain")
    common = {"vocab_size": 260, "max_position_embeddings": 96, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    shape = {"hidden_size": 18, "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 1}
    torch.manual_seed(0)
    fused = transformers.Phi3Config(**common, **shape, intermediate_size=22)  # projections are pieces of one tensor
    turned = transformers.GPT2Config(**common, n_embd=18, n_layer=2, n_head=3)  # and transposed ones
    folders = []
    for config in (fused, turned):
        folders.append(str(tmp_path / config.model_type))
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folders[-1])
    torch.set_num_threads(1)
    alone = [
        hashes(collect(build(config, open_strategy(config)).trainer)[0])
        for config in (load_config(tmp_path / "tiny.yaml", [f"model!={{init_from: {folder}}}"]) for folder in folders)
    ]
    assert run(begun, 2, tmp_path / "ranks", folders)[0] == alone


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
