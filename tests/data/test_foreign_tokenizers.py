"""Folders as other tools write them: the same ids and texts as transformers', and nothing lost when saved again."""

import importlib
import json

import pytest
from tests.data.foreign import NASTY, bpe_pieces, field, sentencepiece, unigram_pieces, write_json

from ostinato.core.errors import UserError
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokenizer_kinds import bpe

transformers = pytest.importorskip("transformers")

LLAMA = {"pieces": bpe_pieces(["<unk>", "<s>", "</s>"], []), "algorithm": 2}
GEMMA = {
    "pieces": bpe_pieces(["<pad>", "<eos>", "<bos>", "<unk>"], ["<start_of_turn>", "<end_of_turn>", "\n\n"]),
    "algorithm": 2,
    "dummy_prefix": False,
    "ids": (3, 2, 1, 0),
}


@pytest.fixture
def without_sentencepiece(monkeypatch):
    """transformers' conversion needs sentencepiece in name only: it reads the model through protobuf."""
    pytest.importorskip("google.protobuf")
    conversion = importlib.import_module("transformers.convert_slow_tokenizer")
    monkeypatch.setattr(conversion, "requires_backends", lambda *_: None)


def same_ids(ours: Tokenizer, theirs) -> None:
    for text in NASTY:
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], text
        assert ours.decode(ours.encode(text)) == theirs.decode(
            theirs(text, add_special_tokens=False)["input_ids"], clean_up_tokenization_spaces=False
        )


def same_after_saving(ours: Tokenizer, folder) -> None:
    ours.save(folder)
    again = Tokenizer.load(folder)
    assert (again.fingerprint, again.eos_ids, again.special_tokens) == (
        ours.fingerprint,
        ours.eos_ids,
        ours.special_tokens,
    )
    assert (again.other_templates, again.template_options) == (ours.other_templates, ours.template_options)
    same_ids(again, transformers.AutoTokenizer.from_pretrained(folder))


@pytest.mark.parametrize("legacy", [True, False, None])
def test_llama_sentencepiece(tmp_path, without_sentencepiece, legacy):
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece(**LLAMA))
    config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False}
    write_json(tmp_path, tokenizer_config=config | ({} if legacy is None else {"legacy": legacy}))
    ours = Tokenizer.load(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, use_fast=True)
    same_ids(ours, theirs)
    assert [ours.token(index) for index in (ours.bos_id, ours.eos_id)] == ["<s>", "</s>"]
    assert [ours.token(index) for index in ours.encode("\U0001f600")][1:] == ["<0xF0>", "<0x9F>", "<0x98>", "<0x80>"]
    same_after_saving(ours, tmp_path / "again")
    saved = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    assert saved("the")["input_ids"] == theirs("the")["input_ids"]  # <s> in front, for programs that ask for it


def test_gemma_sentencepiece(tmp_path, without_sentencepiece):
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece(**GEMMA))
    write_json(tmp_path, tokenizer_config={"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>"})
    ours = Tokenizer.load(tmp_path)
    same_ids(ours, transformers.AutoTokenizer.from_pretrained(tmp_path))
    assert ours.decode(ours.encode(" x  y\n\n")) == " x  y\n\n"
    assert ours.special_tokens["pad_token"] == "<pad>" and ours.special_tokens["unk_token"] == "<unk>"
    same_after_saving(ours, tmp_path / "again")


def test_unigram_sentencepiece(tmp_path, without_sentencepiece):
    from types import SimpleNamespace

    from transformers.convert_slow_tokenizer import SpmConverter

    file = tmp_path / "tokenizer.model"
    file.write_bytes(
        sentencepiece(unigram_pieces(), algorithm=1, byte_fallback=False, remove_spaces=True, ids=(2, -1, 1, 0))
    )
    ours = Tokenizer.load(file)
    theirs = SpmConverter(SimpleNamespace(vocab_file=str(file), add_prefix_space=True)).converted()
    theirs.add_special_tokens(["<unk>"])  # as every tokenizer class of transformers does then
    for text in NASTY[:-1]:  # the last has splits of equal scores, told apart by the scores' last bits
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids, text
    assert (ours.bos_id, ours.eos_id, ours.pad_id) == (None, 1, 0)
    same_after_saving(ours, tmp_path / "again")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it has no pieces"),
        (sentencepiece(**LLAMA)[:-7], "ends within a field"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a sentencepiece model"),
        (b"IQ== 0\nIg== 1\n", "not a sentencepiece model.*tiktoken"),
        (field(1, field(1, "a")) + field(2, field(3, 4)), "its model type is char"),
        (field(1, field(1, b"\xff\xfe")), "not a sentencepiece model"),
        (b"\x80" * 40, "more than ten bytes"),
        (field(1, 5), "a number where a message belongs"),
    ],
)
def test_broken_sentencepiece_files(tmp_path, data, message):
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(UserError, match=message):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "Qwen2Tokenizer"])
def test_vocabulary_and_merges(tmp_path, kind):
    made = json.loads(bpe(NASTY, 400)._backend.to_str())
    vocabulary = made["model"]["vocab"] | {"<|endoftext|>": 400}
    write_json(tmp_path, vocab=vocabulary, tokenizer_config={"tokenizer_class": kind, "eos_token": "<|endoftext|>"})
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in made["model"]["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    ours = Tokenizer.load(tmp_path)
    same_ids(ours, transformers.AutoTokenizer.from_pretrained(tmp_path))
    same_after_saving(ours, tmp_path / "again")
    write_json(tmp_path, tokenizer_config={"tokenizer_class": "CLIPTokenizer"})
    with pytest.raises(UserError, match=r"of a CLIPTokenizer; how that splits words is not known.*save_pretrained"):
        Tokenizer.load(tmp_path)


def fast_folder(folder, **config):
    """A tokenizer.json without special tokens, and settings."""
    tokenizer = bpe(NASTY, 350)
    folder.mkdir(exist_ok=True)
    data = json.loads(tokenizer._backend.to_str())
    data["added_tokens"] = []
    size = len(data["model"]["vocab"])
    (folder / "tokenizer.json").write_text(json.dumps(data))
    write_json(folder, tokenizer_config={"tokenizer_class": "PreTrainedTokenizerFast", **config})
    return size


def added(content, **flags):
    plain = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False)
    return {"__type": "AddedToken", "content": content, **plain, "special": True, **flags}


def settings(name, n):
    """tokenizer_config.json as this or that version writes it; `n` is the first free id."""
    plain = added("ing!", special=False, normalized=True)
    return {
        "added_tokens_decoder": {
            "added_tokens_decoder": {str(n): added("<s>"), str(n + 1): added("</s>"), str(n + 2): plain},
            "bos_token": "<s>",
            "eos_token": added("</s>"),
        },
        "stripping tokens": {
            "added_tokens_decoder": {
                str(n + 1): added("</s>", lstrip=True, rstrip=True),
                str(n): added("<|im_end|>", single_word=True),
            },
            "eos_token": "</s>",
        },
        "names that the vocabulary lacks": {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "?",
            "pad_token": None,
        },
        "additional_special_tokens": {
            "eos_token": "</s>",
            "additional_special_tokens": ["<|im_start|>", added("<|im_end|>")],
        },
        "extra_special_tokens, a list": {"eos_token": "</s>", "extra_special_tokens": ["<|im_start|>", "<|im_end|>"]},
        "extra_special_tokens, a map": {"eos_token": "</s>", "extra_special_tokens": {"image_token": "<|im_start|>"}},
    }[name]


SETTINGS = ("added_tokens_decoder", "stripping tokens", "names that the vocabulary lacks", "additional_special_tokens",
            "extra_special_tokens, a list", "extra_special_tokens, a map")  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_several_years(name, tmp_path):
    size = fast_folder(tmp_path)
    fast_folder(tmp_path, **settings(name, size))
    ours, theirs = Tokenizer.load(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    same_ids(ours, theirs)
    assert ours.vocab_size == len(theirs)
    assert (ours.bos_id, ours.eos_id, ours.pad_id) == (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id)
    same_after_saving(ours, tmp_path / "again")


def test_older_files_beside_the_settings(tmp_path):
    size = fast_folder(tmp_path, eos_token="</s>")
    write_json(
        tmp_path,
        special_tokens_map={"bos_token": {"content": "<s>", "lstrip": False}, "eos_token": "<unused>"},
        added_tokens={"</s>": size + 1, "<s>": size, "plain": size + 2},
    )
    ours = Tokenizer.load(tmp_path)
    assert (ours.bos_id, ours.eos_id, ours.token_id("plain")) == (size, size + 1, size + 2)
    assert ours.decode([size + 2, size + 1], skip_special=True) == "plain"


def test_a_cut_and_a_padding_left_in_the_file_are_not_applied(tmp_path):
    fast_folder(tmp_path)
    whole = Tokenizer.load(tmp_path).encode("the long text")
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    data["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    data["padding"] = {"strategy": {"Fixed": 99}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                       "pad_type_id": 0, "pad_token": "!"}  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    assert Tokenizer.load(tmp_path).encode("the long text") == whole


def test_ends_of_generation_config(tmp_path, caplog):
    size = fast_folder(tmp_path, eos_token="<a>", extra_special_tokens=["<b>", "<c>"])
    write_json(tmp_path, generation_config={"eos_token_id": [size + 1, size, 99999]})
    assert Tokenizer.load(tmp_path).eos_ids == (size, size + 1)
    assert "99999" in caplog.text
    write_json(tmp_path, generation_config={"eos_token_id": size + 2})
    ours = Tokenizer.load(tmp_path)
    assert ours.eos_ids == (size, size + 2)
    same_after_saving(ours, tmp_path / "again")


def test_chat_templates_in_all_places(tmp_path):
    fast_folder(tmp_path, chat_template="S")
    assert Tokenizer.load(tmp_path).chat_template == "S"
    two = [
        {"name": "default", "template": "D {{ messages[0].content }}"},
        {"name": "tool_use", "template": "T {{ tools }}"},
    ]
    for given in (two, {one["name"]: one["template"] for one in two}):
        fast_folder(tmp_path, chat_template=given)
        ours = Tokenizer.load(tmp_path)
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
        chat = [{"role": "user", "content": "hi"}]
        for tools in (None, [{"name": "f"}]):
            assert ours.chat.render(chat, tools).text == theirs.apply_chat_template(chat, tools=tools, tokenize=False)
        same_after_saving(ours, tmp_path / "again")
    (tmp_path / "chat_templates").mkdir()
    (tmp_path / "chat_templates/tool_use.jinja").write_text("TT")
    (tmp_path / "chat_template.jinja").write_text("J")
    ours = Tokenizer.load(tmp_path)
    assert (ours.chat_template, ours.other_templates) == ("J", {"tool_use": "TT"})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer_config": {"added_tokens_decoder": {"7": added("<s>")}}}, "has id 7, the vocabulary gives it"),
        ({"tokenizer_config": {"added_tokens_decoder": {"x": "y"}}}, "added tokens cannot be read"),
        ({"tokenizer_config": {"added_tokens_decoder": {"1": {}}}}, "added tokens cannot be read"),
        ({"tokenizer_config": {"added_tokens_decoder": ["<s>"]}}, "added tokens cannot be read"),
        ({"tokenizer_config": ["a"]}, "a map was expected, not a list"),
        ({"tokenizer_config": {"chat_template": 7}}, "chat_template is neither"),
        ({"tokenizer_config": {"chat_template": [{"name": "x"}]}}, "chat_template is neither"),
        ({"tokenizer_config": {"chat_template": {"default": None}}}, "chat_template is neither"),
    ],
)
def test_broken_settings(tmp_path, files, message):
    fast_folder(tmp_path)
    write_json(tmp_path, **files)
    with pytest.raises(UserError, match=message):
        Tokenizer.load(tmp_path)


def test_broken_files(tmp_path):
    with pytest.raises(UserError, match="no tokenizer here. A folder needs tokenizer.json"):
        Tokenizer.load(tmp_path)
    fast_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": ')
    with pytest.raises(UserError, match="tokenizer_config.json: not JSON"):
        Tokenizer.load(tmp_path)
    whole = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(whole[: len(whole) // 2])
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match="not a tokenizer.json that"):
        Tokenizer.load(tmp_path)
