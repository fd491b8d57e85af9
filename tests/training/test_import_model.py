"""Folders of every family in and out again: the bytes of every tensor and the logits of transformers stay."""

import json
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ostinato.cli.main import exit_code_of
from ostinato.data.tokenizer_kinds import byte
from ostinato.training.weights import find_weights
from tests.models.family_shapes import FAMILIES as SHAPES
from tests.models.family_shapes import LENGTH, VOCABULARY, theirs

TOKENS = torch.randint(0, VOCABULARY, (2, LENGTH), generator=torch.Generator().manual_seed(1))


def ostinato(*arguments: object, code: int = 0) -> str:
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        found = exit_code_of([str(argument) for argument in arguments])
    assert found == code, out.getvalue() + err.getvalue()
    return err.getvalue() if code else out.getvalue()


def weights(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        one.dtype == second[name].dtype and torch.equal(one.view(torch.uint8), second[name].view(torch.uint8))
        for name, one in first.items()
    )


def checkpoint(root: Path, name: str) -> Path:
    return root / name / "checkpoints" / "step_00000000" / "model"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", SHAPES)
def test_in_and_out_again(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    root, model = tmp_path / "runs", theirs(family).to(dtype)
    model.save_pretrained(tmp_path / "source")
    byte().save(tmp_path / "source")
    ostinato("import", tmp_path / "source", "--name", "first", "--root", root)
    ostinato("export", "first", "--to", tmp_path / "out", "--root", root)
    assert same(weights(tmp_path / "out"), weights(tmp_path / "source"))
    before, again = (AutoModelForCausalLM.from_pretrained(tmp_path / name).eval() for name in ("source", "out"))
    assert type(again) is type(model) and again.dtype == dtype
    with torch.no_grad():
        assert torch.equal(again(TOKENS).logits, before(TOKENS).logits)
    ostinato("import", tmp_path / "out", "--name", "second", "--root", root)
    assert same(weights(checkpoint(root, "first")), weights(checkpoint(root, "second")))
    direct = tmp_path / "direct"  # without a run in between
    ostinato("export", tmp_path / "source", "--to", direct)
    assert same(weights(direct), weights(tmp_path / "source"))
    assert (direct / "config.json").read_bytes() == (tmp_path / "out" / "config.json").read_bytes()


@pytest.mark.parametrize("family", ["llama2", "gpt2", "phi3", "gemma3", "olmo2"])
def test_scores_of_every_kind_of_family(family: str, tmp_path: Path) -> None:
    """A reward model that began from a folder of the family: its class scores alike, and it comes back the same."""
    from dataclasses import replace

    from safetensors.torch import save_file
    from transformers import AutoModelForSequenceClassification

    from ostinato.training.initialise import build_model
    from ostinato.training.model_files import model_files
    from ostinato.training.state import named_weights

    theirs(family).save_pretrained(tmp_path / "source")
    origin = find_weights(str(tmp_path / "source"), tmp_path)
    node, inputs = origin.model
    node = replace(node, options={**node.options, "output": "scalar"})
    model: Any = build_model(node, inputs, 7, torch.device("cpu"))
    origin.load_into(model)
    for name, value in (("reward_mean", 0.25), ("reward_std", 1.7)):
        getattr(model, name).data.fill_(value)
    (tmp_path / "judge").mkdir()
    for file, data in model_files(None, node, model, inputs, byte()).items():
        (tmp_path / "judge" / file).write_bytes(data)
    held = {name: one.detach().contiguous() for name, one in named_weights(model).items()}
    save_file(held, tmp_path / "judge" / "model.safetensors")
    ostinato("export", tmp_path / "judge", "--to", tmp_path / "out")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        wanted = model.eval()(TOKENS)[:, -1]
        torch.testing.assert_close(again(TOKENS).logits[:, 0], wanted, rtol=1e-5, atol=1e-5)
        back: Any = find_weights(str(tmp_path / "out"), tmp_path).build("cpu")
        assert torch.equal(back(TOKENS)[:, -1], wanted)
    assert back.reward_mean.item() == 0.25 and back.reward_std.item() == torch.tensor(1.7).item()
    ostinato("import", tmp_path / "out", "--name", "judge", "--root", tmp_path / "runs")
    assert same(weights(checkpoint(tmp_path / "runs", "judge")), weights(tmp_path / "judge"))


@pytest.mark.parametrize("kind", ["starcoder2", "stablelm"])
def test_a_model_that_transformers_computes(kind: str, tmp_path: Path) -> None:
    """No family of ours: through `hf`, as a language model and as one that scores texts."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    }
    sizes |= {"vocab_size": VOCABULARY, "max_position_embeddings": LENGTH}
    config = AutoConfig.for_model(kind, **sizes, num_labels=1, pad_token_id=257)
    for automatic in (AutoModelForCausalLM, AutoModelForSequenceClassification):
        name = automatic.__name__
        model = automatic.from_config(config).eval()
        model.save_pretrained(tmp_path / name)
        byte().save(tmp_path / name)
        ostinato("import", tmp_path / name, "--name", name, "--root", tmp_path / "runs")
        ostinato("export", name, "--to", tmp_path / f"{name}-out", "--root", tmp_path / "runs")
        assert same(weights(tmp_path / f"{name}-out"), weights(tmp_path / name))
        again = automatic.from_pretrained(tmp_path / f"{name}-out").eval()
        assert type(again) is type(model)
        with torch.no_grad():
            assert torch.equal(again(TOKENS).logits, model(TOKENS).logits)


def test_shards_old_names_and_types_of_their_own(tmp_path: Path) -> None:
    """What files of several years hold: names without a prefix, buffers, a tied head stored twice, norms in fp32."""
    from safetensors.torch import save_file

    model = theirs("gpt2").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "source")
    path = tmp_path / "source" / "model.safetensors"
    old = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    old |= {name: tensor.float() for name, tensor in old.items() if "ln_" in name}
    wanted = {f"transformer.{name}": tensor for name, tensor in old.items()}
    old |= {"h.0.attn.bias": torch.ones(1, 1, 4, 4), "lm_head.weight": old["wte.weight"].clone()}
    save_file(old, path)
    ostinato("import", tmp_path / "source", "--name", "old", "--root", tmp_path)
    ostinato("export", "old", "--to", tmp_path / "out", "--root", tmp_path, "--max-shard-size", "10KB")
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    assert same(weights(tmp_path / "out"), wanted)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_what_is_broken_brings_nothing_in(tmp_path: Path) -> None:
    theirs("llama2").save_pretrained(tmp_path / "source", max_shard_size="20KB")
    lost = min((tmp_path / "source").glob("model-*"))
    lost.unlink()
    for verb in (["import", "--name", "never"], ["export", "--to", tmp_path / "never"]):
        assert f"{lost} is missing" in ostinato(verb[0], tmp_path / "source", *verb[1:], "--root", tmp_path, code=3)
    assert not (tmp_path / "never").exists()
