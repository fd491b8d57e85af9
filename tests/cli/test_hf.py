"""Models of transformers by the command line: trained from a config.json in YAML, sampled from, exported, continued."""

import json
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ostinato.cli.main import exit_code_of
from ostinato.data.tokenizer_kinds import byte
from ostinato.training.weights import load_run_model
from tests.training.tiny import write_data

transformers = pytest.importorskip("transformers")
SHAPE: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 128, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
TOKENS = torch.arange(3, 43)[None]


def ostinato(*arguments: object, code: int = 0) -> str:
    """The command line, in this process: what it prints, or says of a mistake."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        found = exit_code_of([str(argument) for argument in arguments])
    assert found == code, out.getvalue() + err.getvalue()
    return err.getvalue() if code else out.getvalue()


def write_config(folder: Path, name: str, model: dict[str, Any], algorithm: str = "sft", rows: str = "rows") -> Path:
    write_data(folder)
    config = {
        "experiment": {"name": name, "output_root": str(folder / "runs")},
        "model": model,
        "algorithm": {"name": algorithm},
        "data": {"train": {"name": "jsonl", "path": str(folder / f"{rows}.jsonl")}, "sequence_length": 96},
        "training": {"total_steps": 2, "batch_size": 8, "learning_rate": 0.01, "threads": 1},
        "logging": {"save_interval": 2, "trackers!": {}},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.mark.parametrize(("kind", "extra", "tensor"), [
    ("gpt_neox", {}, "embed_out.weight"),
    ("mixtral", {"num_local_experts": 4}, "model.layers.0.block_sparse_moe.experts.3.w2.weight"),
])  # fmt: skip
def test_trained_sampled_from_continued_and_exported(tmp_path: Path, kind: str, extra: Any, tensor: str) -> None:
    model = {
        "name": "hf",
        "config": {"model_type": kind, **SHAPE, **extra, "_name_or_path": "x/y", "id2label": {"0": "a"}},
    }
    ostinato("train", write_config(tmp_path, "first", model))
    said = ostinato("generate", tmp_path / "runs/first", "--prompt", "the quick", "--max-new-tokens", 4)
    assert "the quick" in said
    ostinato("train", write_config(tmp_path, "second", {"init_from": "run:first"}, "dpo", "pairs"))
    ostinato("export", tmp_path / "runs/second", "--to", tmp_path / "out")
    found = load_file(tmp_path / "out/model.safetensors")
    assert tensor in found
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    ours, _ = load_run_model(tmp_path / "runs/second")
    with torch.no_grad():
        torch.testing.assert_close(ours(TOKENS), theirs(TOKENS).logits, rtol=0, atol=1e-5)
    written = json.loads((tmp_path / "out/config.json").read_text())
    assert written["model_type"] == kind and written["_name_or_path"] == "x/y" and written["vocab_size"] == 259


def test_a_config_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    path = write_config(tmp_path, "wrong", {"name": "hf", "config": {"model_type": "gpt_neo_x", **SHAPE}})
    said = ostinato("train", path, code=2)
    assert "wrong.yaml" in said and "Did you mean gpt_neox?" in said and "Traceback" not in said
    assert not (tmp_path / "runs").exists()


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """Of all its files."""
    return {name: one for path in folder.glob("*.safetensors") for name, one in load_file(path).items()}


def test_a_vocabulary_larger_than_the_tokenizers_is_kept(tmp_path: Path) -> None:
    config = {"model_type": "gpt_neox", **SHAPE, "vocab_size": 300}
    ostinato("train", write_config(tmp_path, "first", {"name": "hf", "config": config}))
    said = ostinato("train", write_config(tmp_path, "second", {"init_from": "run:first"}))
    assert "259 tokens, 300 rows: 41 are kept that no token has" in said
    ours, _ = load_run_model(tmp_path / "runs/second")
    assert ours(TOKENS).shape == (1, 40, 300)


FOLDERS: dict[str, dict[str, Any]] = {
    "gpt_neox": {},
    "mixtral": {"num_local_experts": 4},
    "phi": {},
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16},
    "mamba": {"state_size": 4},
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_of_an_unknown_family(tmp_path: Path, kind: str) -> None:
    """Its logits here are those of transformers; it is trained and sampled from."""
    config = transformers.AutoConfig.for_model(**{"model_type": kind, **SHAPE, **FOLDERS[kind], "vocab_size": 300})
    torch.manual_seed(0)
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    theirs.save_pretrained(tmp_path / "folder", max_shard_size="10kB")
    byte().save(tmp_path / "folder")
    ours, _ = load_run_model(tmp_path / "folder")
    with torch.no_grad():
        torch.testing.assert_close(ours(TOKENS), theirs(input_ids=TOKENS).logits, rtol=0, atol=1e-5)
    model = {"init_from": str(tmp_path / "folder")}
    ostinato("train", write_config(tmp_path, "tuned", model))
    said = ostinato("generate", tmp_path / "runs/tuned", "--prompt", "the quick", "--max-new-tokens", 4)
    assert "the quick" in said
    ostinato("train", write_config(tmp_path, "judge", model, "reward_model", "pairs"))
    ostinato("export", tmp_path / "runs/tuned", "--to", tmp_path / "out")
    found, before = (transformers.AutoModelForCausalLM.from_pretrained(tmp_path / one) for one in ("out", "folder"))
    ours, _ = load_run_model(tmp_path / "runs/tuned")
    with torch.no_grad():
        torch.testing.assert_close(ours(TOKENS), found.eval()(input_ids=TOKENS).logits, rtol=0, atol=1e-5)
    ostinato("import", tmp_path / "folder", "--name", "taken", "--root", tmp_path / "runs")
    ostinato("export", tmp_path / "runs/taken", "--to", tmp_path / "back")
    once, twice = (tensors_of(tmp_path / one) for one in ("folder", "back"))
    assert set(once) == set(twice) and all(torch.equal(twice[name], tensor) for name, tensor in once.items())
    assert any(not torch.equal(*pair) for pair in zip(found.parameters(), before.parameters(), strict=True))


@pytest.mark.parametrize(("key", "value", "words"), [
    ("auto_map", {"AutoModelForCausalLM": "modeling_evil.Evil"}, "code of its own"),
    ("quantization_config", {"quant_method": "gptq"}, "quantised"),
    ("model_type", "gpt_neo_x", "gpt_neox"),
])  # fmt: skip
def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path, key: str, value: Any, words: str) -> None:
    config = transformers.AutoConfig.for_model(**{"model_type": "gpt_neox", **SHAPE, "vocab_size": 300})
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "folder")
    byte().save(tmp_path / "folder")
    (tmp_path / "folder/modeling_evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    path = tmp_path / "folder/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    said = ostinato("train", write_config(tmp_path, "tuned", {"init_from": str(tmp_path / "folder")}), code=2)
    assert words in said and "Traceback" not in said
    assert not (tmp_path / "ran").exists() and not (tmp_path / "runs").exists()
