"""Folders of Hugging Face whose tensors are not those of the modules: names, joins, and back."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ostinato.core.errors import RefusedError
from ostinato.core.inputs import ModelInputs
from ostinato.training.initialise import build_model
from tests.models.test_hf import ALL, V, made, node, theirs, tokens

MORE = {"gpt_neox": "embed_out.weight", "mixtral": "model.layers.0.block_sparse_moe.experts.0.w1.weight"}


@pytest.mark.parametrize("kind", ALL)
def test_a_folder_that_transformers_wrote_is_read_and_written_as_it_is(tmp_path: Path, kind: str) -> None:
    written, model = theirs(made(kind, seed=5), kind), made(kind)
    written.save_pretrained(tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    assert kind not in MORE or MORE[kind] in found
    model.load_state_dict(model.from_files(found), strict=False)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens()), written(input_ids=tokens()).logits, rtol=0, atol=1e-5)
    back = model.to_files({name: one.detach() for name, one in model.named_parameters()})
    assert set(back) <= set(found)
    assert all(torch.equal(found[name], tensor) for name, tensor in back.items())


def test_a_larger_vocabulary_has_the_rows_that_are_there(tmp_path: Path) -> None:
    theirs(made("gpt_neox"), "gpt_neox").save_pretrained(tmp_path)
    larger = build_model(node("gpt_neox"), ModelInputs(V + 9, 40), 0, torch.device("cpu"))
    found = larger.from_files(load_file(tmp_path / "model.safetensors"))
    assert found["lm_head.weight"].shape == (V, 32) and larger.lm_head.weight.shape == (V + 9, 32)


def test_what_is_missing_unknown_or_misshapen_is_named(tmp_path: Path) -> None:
    theirs(made("gpt_neox"), "gpt_neox").save_pretrained(tmp_path)
    found, model = load_file(tmp_path / "model.safetensors"), made("gpt_neox")
    name = "gpt_neox.layers.1.mlp.dense_4h_to_h.weight"
    with pytest.raises(RefusedError, match=f"missing keys: {name}"):
        model.from_files({key: tensor for key, tensor in found.items() if key != name})
    with pytest.raises(RefusedError, match="unexpected keys: other"):
        model.from_files({**found, "other": torch.zeros(2)})
    with pytest.raises(RefusedError, match=rf"mismatched keys: .*{name}"):
        model.from_files({**found, name: found[name][:3]})
