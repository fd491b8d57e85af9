"""The parts of an export: pieces put together, sizes, endings, folders that are there whole or not at all."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ostinato.core.errors import OstinatoError, UserError
from ostinato.core.registry import MODELS
from ostinato.data.tokenizer_kinds import byte
from ostinato.training.export import export_model, size_bytes
from ostinato.training.export_weights import assembled
from ostinato.training.generation_config import generation_config
from ostinato.training.planned_tensor import PlannedTensor
from ostinato.training.score_model import score_config, with_padding_token
from ostinato.training.tokenizer_export import tokenizer_files
from ostinato.training.weights import Origin
from ostinato.training.whole_folder import whole_folder

SAMPLING = {"temperature": 1.0, "top_k": None, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "stop": ["."]}


def piece(name: str, start: int = 0, dim: int = 0, transposed: bool = False) -> Any:
    return SimpleNamespace(name=name, start=start, stop=None, dim=dim, transposed=transposed)


def test_pieces_are_put_together() -> None:
    """Three projections (out, in) side by side in one that is stored (in, out); in whatever order they come."""
    q, k, v, o = (torch.randn(*shape) for shape in ((4, 3), (2, 3), (2, 3), (3, 4)))
    places = {"k": piece("qkv", 4, 1, True), "q": piece("qkv", 0, 1, True), "v": piece("qkv", 6, 1, True)}
    found = assembled({"k": k, "o": o, "q": q, "v": v}, lambda name: places.get(name) or piece("out", transposed=True))
    assert list(found) == ["qkv", "out"] and found["qkv"].shape == (3, 8) and found["out"].shape == (4, 3)
    assert torch.equal(found["qkv"].tensor(), torch.cat([q.T, k.T, v.T], 1))
    assert torch.equal(found["out"].to(torch.bfloat16).tensor(), o.T.bfloat16())
    assert found["qkv"].nbytes == 4 * 24 and found["qkv"].to(torch.bfloat16).nbytes == 2 * 24


def test_integers_keep_their_type() -> None:
    planned = PlannedTensor.of(torch.arange(3)).to(torch.bfloat16)
    assert planned.tensor().dtype == torch.int64


@pytest.mark.parametrize(
    ("text", "size"),
    [("5GB", 5 * 10**9), ("1GiB", 2**30), (" 500 mb ", 5 * 10**8), ("1.5kB", 1500), ("4096", 4096), ("2TiB", 2**41)],
)
def test_sizes(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "0MB", "0.1", "5 G", "1e9", "٣GB ٣"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UserError, match="is no size"):
        size_bytes(text)


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, {"do_sample": True, "temperature": 1.0, "top_k": 0}),
        ({"temperature": 0.0, "top_p": 0.5, "top_k": 3}, {"do_sample": False}),
        ({"temperature": 0.0, "repetition_penalty": 1.1}, {"do_sample": False, "repetition_penalty": 1.1}),
        (
            {"top_k": 20, "top_p": 0.9, "min_p": 0.1},
            {"do_sample": True, "temperature": 1.0, "top_k": 20, "top_p": 0.9, "min_p": 0.1},
        ),
    ],
)
def test_sampling_in_the_words_of_transformers(tmp_path: Path, changed: dict[str, Any], wanted: dict[str, Any]) -> None:
    found = generation_config(byte(), tmp_path, {**SAMPLING, **changed})
    assert found == {**wanted, "eos_token_id": [256, 258], "pad_token_id": 256}


def test_sampling_of_a_folder(tmp_path: Path) -> None:
    """What lies there already is kept; ends that the tokenizer has not are kept too."""
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps({"top_p": 0.8, "eos_token_id": 7, "transformers_version": "5", "max_length": None}))
    wanted = {"top_p": 0.8, "transformers_version": "5", "pad_token_id": 256, "eos_token_id": [256, 258, 7]}
    assert generation_config(byte(), tmp_path) == wanted
    path.write_text("[")
    assert generation_config(byte(), tmp_path) == {"pad_token_id": 256, "eos_token_id": [256, 258]}


def test_a_padding_token_that_ends_no_text() -> None:
    found, note = with_padding_token(byte())
    assert found.special_tokens["pad_token"] == "<|im_start|>" and note is not None
    own = byte().extended(["<pad>"], pad="<pad>")
    assert with_padding_token(own) == (own, None)
    bare = byte().extended([], bos="<|im_start|>", pad=None)
    assert with_padding_token(bare)[0].pad_id == 257


def test_classes_that_give_scores() -> None:
    """Each is one of transformers', by its own list."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as LANGUAGE
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as SCORES

    for kind in (
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma",
        "gemma2",
        "gemma3_text",
        "phi3",
        "gpt2",
        "olmo2",
        "smollm3",
    ):
        found = score_config({"model_type": kind, "architectures": [LANGUAGE[kind]]})
        assert found is not None and found["architectures"] == [SCORES[kind]]
    assert score_config({"model_type": "rwkv", "architectures": ["RwkvForCausalLM"]}) is None


def test_chat_templates_lie_in_files_of_their_own(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from ostinato.data.tokenizer import Tokenizer

    plain = byte().with_chat_template("{{ messages[0].content }}!")
    several = Tokenizer(plain._backend, **{**plain._arguments(), "other_templates": {"tool_use": "{{ tools }}?"}})
    files = tokenizer_files(several)
    assert "chat_template" not in json.loads(files["tokenizer_config.json"])
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    theirs, own = AutoTokenizer.from_pretrained(tmp_path), Tokenizer.load(tmp_path)
    assert theirs.chat_template == {"default": "{{ messages[0].content }}!", "tool_use": "{{ tools }}?"}
    assert own.fingerprint == several.fingerprint


# ---- folders


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model"
    with pytest.raises(ZeroDivisionError), whole_folder(target, replace=False) as folder:
        (folder / "config.json").write_text("{}")
        raise ZeroDivisionError
    with pytest.raises(OstinatoError, match="No space left"), whole_folder(target, replace=False):
        raise OSError(28, "No space left on device")
    assert list(target.parent.iterdir()) == []
    with whole_folder(target, replace=False) as folder:
        (folder / "config.json").write_text("{}")
    assert [path.name for path in target.parent.iterdir()] == ["model"]
    with (
        pytest.raises(UserError, match="bytes are needed"),
        whole_folder(tmp_path / "x", replace=False, room_bytes=1 << 60),
    ):
        pass


def test_a_folder_that_came_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not empty"), whole_folder(tmp_path / "m", replace=False) as folder:
        (folder / "config.json").write_text("ours")
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "config.json").write_text("theirs")
    assert (tmp_path / "m" / "config.json").read_text() == "theirs" and len(list(tmp_path.iterdir())) == 1


def test_a_replacement_that_was_cut_off_is_undone(tmp_path: Path) -> None:
    """Killed between the two renames: the old folder has no name. The next export gives it back; it is not lost."""
    lost = tmp_path / ".m.replaced-999999999"
    lost.mkdir()
    (lost / "config.json").write_text("old")
    half = tmp_path / ".m.writing-999999999"
    half.mkdir()
    alive = tmp_path / f".m.writing-{os.getppid()}"
    alive.mkdir()
    with pytest.raises(UserError, match="is not empty"), whole_folder(tmp_path / "m", replace=False):
        pass
    assert (tmp_path / "m" / "config.json").read_text() == "old"
    assert not lost.exists() and not half.exists() and alive.exists()


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with whole_folder(tmp_path / "link", replace=False) as folder:
        (folder / "config.json").write_text("{}")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there" / "config.json").is_file()


# ---- a class of the user's own


@pytest.fixture
def own_class() -> Iterator[str]:
    @MODELS.register("odd_table")
    class OddTable(nn.Module):
        def __init__(self, inputs: Any, *, width: int = 4) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(inputs.vocab_size, width))

    yield "odd_table"
    del MODELS.objects["odd_table"], MODELS.places["odd_table"]


def test_only_ostinato_loads_a_class_of_its_own(own_class: str, tmp_path: Path) -> None:
    own = {"name": own_class, "options": {"width": 3}, "inputs": {"vocab_size": 5, "sequence_length": 8}}
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "config.json").write_text(json.dumps({"ostinato": own}))
    weights: dict[str, Tensor] = {"table": torch.randn(5, 3)}
    save_file(weights, source / "model.safetensors")
    found = export_model(Origin(source, {}), target, card=lambda _: "card")
    assert found.model.notes == [
        "no tokenizer: this is no model of text",
        "transformers has no class that computes what this odd_table does: only ostinato loads it",
    ]
    assert json.loads((target / "config.json").read_text()) == {"ostinato": own}
    assert torch.equal(load_file(target / "model.safetensors")["table"], weights["table"])
    assert torch.equal(Origin(target, {}).build("cpu").table, weights["table"])
