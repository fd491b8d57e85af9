"""Folders that transformers wrote: the same logits as there, and one clear message for each fault."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ostinato.core.config import Component
from ostinato.core.errors import OstinatoError
from ostinato.core.registry import FAMILIES
from ostinato.training.initialise import build_model
from ostinato.training.model_files import config_of
from ostinato.training.weights import find_weights
from tests.models.family_shapes import FAMILIES as SHAPES
from tests.models.family_shapes import LENGTH, VOCABULARY, theirs

TOKENS = torch.randint(0, VOCABULARY, (2, LENGTH), generator=torch.Generator().manual_seed(1))


def folder_of(family: str, tmp_path: Path, **how: Any) -> tuple[Path, Any]:
    model = theirs(family)
    model.save_pretrained(tmp_path / "model", **how)
    return tmp_path / "model", model


@pytest.mark.parametrize("family", SHAPES)
def test_logits_equal_those_of_transformers(family: str, tmp_path: Path) -> None:
    folder, model = folder_of(family, tmp_path)
    own = find_weights(str(folder), tmp_path).build("cpu")
    with torch.no_grad():
        wanted = model(TOKENS).logits
        torch.testing.assert_close(own(TOKENS), wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(own(TOKENS[:, :20]), model(TOKENS[:, :20]).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", SHAPES)
def test_the_config_of_a_family_is_written_as_it_was_read(family: str, tmp_path: Path) -> None:
    """What transformers makes of our config.json computes the same: its class finds every field where it looks."""
    folder, model = folder_of(family, tmp_path)
    own = find_weights(str(folder), tmp_path).build("cpu")
    described = own.hf_config()
    assert described is not None
    read = type(model.config).from_dict({**described, "pad_token_id": None})
    read._attn_implementation = "eager"
    again = type(model)(read).eval()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again(TOKENS).logits, model(TOKENS).logits)


def test_every_family_is_tried() -> None:
    tried = {theirs(family).config.model_type for family in SHAPES}
    assert tried | {"gemma3"} == set(FAMILIES.names())  # which is tried below


@pytest.mark.parametrize("family", ["llama2", "phi3", "gpt2", "smollm"])
def test_shards_and_types(family: str, tmp_path: Path) -> None:
    folder, model = folder_of(family, tmp_path, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    found = find_weights(str(folder), tmp_path).build("cpu")
    half = model.to(torch.bfloat16)
    half.save_pretrained(tmp_path / "half")
    rounded = find_weights(str(tmp_path / "half"), tmp_path).build("cpu")
    for (name, one), (_, other) in zip(found.named_parameters(), rounded.named_parameters(), strict=True):
        assert torch.equal(one.bfloat16().float(), other), name


def test_names_without_the_prefix_and_buffers_of_old_files(tmp_path: Path) -> None:
    folder, model = folder_of("gpt2", tmp_path)
    weights = load_file(folder / "model.safetensors")
    old = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    old["h.0.attn.bias"] = torch.ones(1, 1, LENGTH, LENGTH)
    old["lm_head.weight"] = old["wte.weight"].clone()
    save_file(old, folder / "model.safetensors")
    with torch.no_grad():
        found = find_weights(str(folder), tmp_path).build("cpu")(TOKENS)
        torch.testing.assert_close(found, model(TOKENS).logits, rtol=1e-5, atol=1e-5)
    save_file({**old, "lm_head.weight": old["wte.weight"] + 1}, folder / "model.safetensors")
    with pytest.raises(OstinatoError, match="embeddings are tied, but lm_head.weight differs"):
        find_weights(str(folder), tmp_path).build("cpu")


def change(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= fields
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("year", ["now", "before"])
def test_of_a_gemma_with_eyes_the_text_part_is_read(year: str, tmp_path: Path) -> None:
    folder, model = folder_of("gemma3", tmp_path)
    text = json.loads((folder / "config.json").read_text())
    change(folder, model_type="gemma3", architectures=["Gemma3ForConditionalGeneration"], text_config=text)
    change(folder, **{name: ... for name in text if name not in ("model_type", "architectures")})
    new = "model.language_model." if year == "now" else "language_model.model."
    weights = load_file(folder / "model.safetensors")
    weights = {name.replace("model.", new, 1): tensor for name, tensor in weights.items()}
    eyes = {"model.vision_tower.x.weight": torch.ones(2), "multi_modal_projector.y": torch.ones(2)}
    save_file({**weights, **eyes}, folder / "model.safetensors")
    own = find_weights(str(folder), tmp_path).build("cpu")
    with torch.no_grad():
        torch.testing.assert_close(own(TOKENS), model(TOKENS).logits, rtol=1e-5, atol=1e-5)
    assert own.hf_config()["architectures"] == ["Gemma3ForCausalLM"]


def test_ropes_in_the_spelling_of_older_files(tmp_path: Path) -> None:
    folder, model = folder_of("llama3", tmp_path)
    rope = json.loads((folder / "config.json").read_text())["rope_parameters"]
    old = {**rope, "type": rope["rope_type"]}
    theta = old.pop("rope_theta")
    change(folder, rope_parameters=..., rope_theta=theta, rope_scaling=old)
    own = find_weights(str(folder), tmp_path).build("cpu")
    with torch.no_grad():
        torch.testing.assert_close(own(TOKENS), model(TOKENS).logits, rtol=1e-5, atol=1e-5)


def test_what_is_loaded_is_not_drawn_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = folder_of("qwen3", tmp_path)
    kind, drawn = type(find_weights(str(folder), tmp_path).build("cpu")), []
    draw = kind.initial_value
    monkeypatch.setattr(kind, "initial_value", lambda own, *how: drawn.append(how[0]) or draw(own, *how))
    origin = find_weights(str(folder), tmp_path)
    origin.build("cpu")
    assert drawn == []
    node, inputs = origin.model
    device = torch.device("cpu")
    judge = Component(node.name, {**node.options, "output": "scalar"})
    build_model(judge, inputs, 0, device, filled=origin.fills)
    assert sorted(drawn) == ["reward_mean", "reward_std", "score.weight"]


def test_a_head_of_its_own_that_is_not_there(tmp_path: Path) -> None:
    folder, model = folder_of("llama2", tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file({n: t for n, t in weights.items() if n != "lm_head.weight"}, folder / "model.safetensors")
    with pytest.raises(OstinatoError, match="lm_head.weight is missing"):
        find_weights(str(folder), tmp_path).build("cpu")
    change(folder, tie_word_embeddings=True)
    assert find_weights(str(folder), tmp_path).build("cpu").lm_head is None


@pytest.mark.parametrize("family", ["gpt2", "phi3"])
def test_the_same_folder_through_transformers(family: str, tmp_path: Path) -> None:
    """The model `hf` has the names of the files, whatever the family's own model has."""
    folder, model = folder_of(family, tmp_path)
    origin = find_weights(str(folder), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    own = build_model(Component("hf", {"config": config}), origin.model[1], 0, torch.device("cpu"), filled=origin.fills)
    origin.load_into(own)
    with torch.no_grad():
        torch.testing.assert_close(own.eval()(TOKENS), model(TOKENS).logits, rtol=1e-5, atol=1e-5)
    native = origin.build("cpu")
    assert config_of(own)["model_type"] == family and config_of(native) is None  # its checkpoints have our names
    assert native.hf_config()["model_type"] == family


def test_integers_are_no_weights(tmp_path: Path) -> None:
    folder, _ = folder_of("llama2", tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"].to(torch.int8)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(OstinatoError, match=r"model.norm.weight holds torch.int8"):
        find_weights(str(folder), tmp_path).build("cpu")


def test_beside_the_model_there_may_be_its_weights_in_another_form(tmp_path: Path) -> None:
    folder, model = folder_of("mistral", tmp_path)
    save_file({"tok_embeddings.weight": torch.ones(3)}, folder / "consolidated.safetensors")
    find_weights(str(folder), tmp_path).build("cpu")


FAULTS: dict[str, tuple[Any, str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "there is no config.json"),
    "config that is no JSON": (lambda folder: cut(folder / "config.json", 30), "config.json cannot be read"),
    "a field is missing": (lambda folder: change(folder, hidden_size=...), "hidden_size is missing"),
    "no vocabulary": (lambda folder: change(folder, vocab_size=...), "vocab_size is missing"),
    "no model type": (lambda folder: change(folder, model_type=...), "model_type is missing"),
    "a rope without its factor": (
        lambda folder: change(folder, rope_parameters={"rope_type": "linear", "rope_theta": 1e4}),
        "config.json: factor is missing",
    ),
    "a word for a number": (lambda folder: change(folder, rope_theta="x", rope_parameters=...), "cannot be understood"),
    "an activation": (lambda folder: change(folder, hidden_act="relu6"), "hidden_act: 'relu6'"),
    "a classifier": (lambda folder: change(folder, architectures=["LlamaForTokenClassification"]), "no language model"),
    "quantised": (lambda folder: change(folder, quantization_config={"bits": 4}), "quantised weights are not loaded"),
    "another shape": (lambda folder: change(folder, intermediate_size=64), "the model wants"),
    "more layers": (lambda folder: change(folder, num_hidden_layers=4), "missing: model.layers.3"),
    "fewer layers": (lambda folder: change(folder, num_hidden_layers=2), "not of this model: model.layers.2"),
    "a missing shard": (lambda folder: min(folder.glob("model-*")).unlink(), "is missing, which"),
    "a cut shard": (lambda folder: cut(min(folder.glob("model-*")), 3000), "it is cut off"),
    "an empty shard": (lambda folder: min(folder.glob("model-*")).write_bytes(b""), "cannot be read"),
    "a broken index": (lambda folder: (folder / "model.safetensors.index.json").write_text("{"), "cannot be read"),
    "a path in the index": (
        lambda folder: (folder / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../y"}}'),
        "is missing",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_said_clearly_and_nothing_is_loaded(fault: str, tmp_path: Path) -> None:
    folder, _ = folder_of("llama2", tmp_path, max_shard_size="20KB")
    break_it, words = FAULTS[fault]
    break_it(folder)
    with pytest.raises(OstinatoError, match=words) as caught:
        find_weights(str(folder), tmp_path).build("cpu")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    folder, _ = folder_of("llama2", tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(OstinatoError, match="is a pickle, which may run code"):
        find_weights(str(folder), tmp_path).build("cpu")
