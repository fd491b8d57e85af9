"""Every algorithm trains a model of transformers; runs of it resume exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ostinato.training.build import Built, build, open_strategy
from ostinato.training.checkpoint_folder import Checkpoints, Retention
from ostinato.training.saver import Saver
from ostinato.training.state import named_weights
from ostinato.training.tensor_files import write_tensors
from tests.training import tiny
from tests.training.gradient_of_step import gradient_of_step

pytest.importorskip("transformers")
SHAPE = (
    "hidden_size: 16, intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 2, initializer_range: STD, "
    "max_position_embeddings: 128, bos_token_id: null, eos_token_id: null, pad_token_id: null"
)
PACKS = f"{{name: hf, config: {{model_type: gpt_neox, hidden_dropout: 0.1, {SHAPE}}}}}"
APART = f"{{name: hf, config: {{model_type: opt, ffn_dim: 32, word_embed_proj_dim: 16, dropout: 0.1, {SHAPE}}}}}"
NO_CLIP = "training.max_grad_norm=null"


@pytest.fixture(params=["packs", "apart"])
def model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny experiments with another model."""
    torch.set_num_threads(1)
    monkeypatch.setattr(tiny, "MODEL", PACKS if request.param == "packs" else APART)
    monkeypatch.setattr(tiny, "write_teacher", write_teacher)
    return str(request.param)


def write_teacher(folder: Path) -> Path:
    """`folder/teacher`: a model of the same shape with wide weights."""
    if not (folder / "teacher").exists():
        config = tiny.tiny_config(folder, "sft", "experiment.seed=7", "model.config.initializer_range=0.5")
        built = build(config, open_strategy(config))
        (folder / "teacher").mkdir()
        for name, content in built.model_files.items():
            (folder / "teacher" / name).write_bytes(content)
        write_tensors(folder / "teacher" / "model.safetensors", named_weights(built.trainer.model), {})
    return folder / "teacher"


def made(folder: Path, algorithm: str, *overrides: str) -> Built:
    config = tiny.tiny_config(folder, algorithm, *overrides)
    return build(config, open_strategy(config))


def weights(built: Built) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in built.trainer.model.named_parameters()}


@pytest.mark.parametrize("algorithm", tiny.algorithms())
def test_every_algorithm_trains_it(tmp_path: Path, model: str, algorithm: str) -> None:
    built = made(tmp_path, algorithm, "training.total_steps=2", "logging.eval_interval=2")
    before, seen = weights(built), []
    built.trainer.add_hook(lambda _, output: seen.append(output.loss))
    built.trainer.train()
    assert len(seen) == 2 and all(torch.isfinite(torch.tensor(seen)))
    changed = [name for name, one in weights(built).items() if not torch.equal(one, before[name])]
    assert {name for name in before if "embed" in name} <= set(changed)
    assert built.trainer.model.packs is (model == "packs")


@pytest.mark.parametrize("algorithm", ["sft", "grpo"])
def test_a_resumed_run_has_the_same_bits(tmp_path: Path, model: str, algorithm: str) -> None:
    def with_saver(built: Built, folder: Path) -> Any:
        checkpoints = Checkpoints(folder, Retention(), lambda *_, **__: None)
        built.trainer.parts.saver = Saver(checkpoints, {"run": {"id": "r", "name": "n"}}, built.model_files)
        return built.trainer

    whole, half = (made(tmp_path, algorithm, "training.total_steps=4") for _ in range(2))
    whole.trainer.train()
    trainer = with_saver(half, tmp_path / "checkpoints")
    trainer.total_steps = 2
    trainer.train()
    trainer.parts.saver.save(trainer, wait=True)
    resumed = made(tmp_path, algorithm, "training.total_steps=4")
    trainer = with_saver(resumed, tmp_path / "checkpoints")
    assert trainer.parts.saver.load(trainer) == 2
    trainer.train()
    found, wanted = weights(resumed), weights(whole)
    assert all(torch.equal(found[name], one) for name, one in wanted.items())
    assert any(not torch.equal(found[name], one) for name, one in weights(half).items())


NO_DROPOUT = {"packs": "model.config.hidden_dropout=0.0", "apart": "model.config.dropout=0.0"}


@pytest.mark.parametrize("cut", ["training.micro_batch_size=1", "data.packing=false"])
@pytest.mark.parametrize("algorithm", ["sft", "dpo"])
def test_the_gradient_does_not_depend_on_the_cut(tmp_path: Path, model: str, algorithm: str, cut: str) -> None:
    off = NO_CLIP, NO_DROPOUT[model]
    wanted = gradient_of_step(tiny.tiny_config(tmp_path, algorithm, *off))
    found = gradient_of_step(tiny.tiny_config(tmp_path, algorithm, *off, cut))
    for name, gradient in wanted.items():
        error = (found[name].double() - gradient.double()).norm()
        assert error <= 2e-5 * gradient.double().norm().clamp(min=1e-4), name
