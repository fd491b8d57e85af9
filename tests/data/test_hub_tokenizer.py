"""A tokenizer of the hub: from a cache laid out as the hub's is, at a commit that is recorded."""

import json
from types import SimpleNamespace

import pytest
from tests.data.test_hub import COMMIT, OTHER, lay_out, offline  # noqa: F401 (a fixture)

from ostinato.core.errors import UserError
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokenizer_kinds import bpe, build_tokenizer


def repository(hub, files, **where):
    """As `lay_out` makes it of a data set, moved to where a model's is."""
    lay_out(hub, files, name="org/model", **where)
    made = hub / "datasets--org--model"
    made.rename(hub / "models--org--model") if not (hub / "models--org--model").exists() else None


def node(path, **fields):
    plain = {"chat_template": None, "template_options": {}, "added_tokens": []}
    return SimpleNamespace(name="pretrained", path=path, **{**plain, **fields})


def test_its_files_at_the_branchs_commit(tmp_path, offline):  # noqa: F811
    own = bpe(["the cat"], 300).extended(["<|x|>"], eos="<|x|>")
    own.save(tmp_path / "own")
    files = {name: (tmp_path / "own" / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")}
    files |= {"chat_templates/tool_use.jinja": b"T", "chat_template.jinja": b"D", "model.safetensors": b"x"}
    files["generation_config.json"] = json.dumps({"eos_token_id": [own.vocab_size - 1]}).encode()
    repository(offline, files)
    found = build_tokenizer(node("hub:org/model"), lambda: [])
    assert found.encode("the <|x|>") == own.encode("the <|x|>") and found.origin == f"hub:org/model@{COMMIT}"
    assert (found.chat_template, found.other_templates) == ("D", {"tool_use": "T"})
    dressed = build_tokenizer(
        node(f"hub:org/model@{COMMIT}", added_tokens=["<y>"], template_options={"a": 1}), lambda: []
    )
    assert dressed.origin == found.origin and dressed.vocab_size == found.vocab_size + 1
    assert Tokenizer.load(tmp_path / "own").origin is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("hub:org/none", "hub:org/none: not in the cache.*hub cannot be reached"),
        (f"hub:org/model@{OTHER}", "cannot be reached"),
        ("hub:a/b/c", "not the name of a repository"),
        ("hub:org/model", "has no tokenizer.json, tokenizer.model or vocab.json"),
    ],
)
def test_what_is_not_to_be_had_is_said(offline, path, message):  # noqa: F811
    repository(offline, {"config.json": b"{}"})
    with pytest.raises(UserError, match=message):
        build_tokenizer(node(path), lambda: [])
