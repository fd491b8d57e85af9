"""Every kind of tokenizer: exact round trips, exact bytes, and the same ids when transformers loads what was saved."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from ostinato.core.errors import UserError
from ostinato.data.documents import pieces
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokenizer_kinds import bpe, build_tokenizer, byte, byte_alphabet, character

HARD = "Grüße, 世界! 👩‍👩‍👧 \r\n\ttabs  and   spaces\n\n\n e\u0301 \ufeff\x00 end \n"
TRAINING = ["the cat sat on the mat.\nthe cat ran.\n", HARD]


def kinds() -> dict[str, Tokenizer]:
    return {"byte": byte(), "character": character(TRAINING), "bpe": bpe(TRAINING, 300)}


@pytest.mark.parametrize("kind", ["byte", "character", "bpe"])
@pytest.mark.parametrize("text", [*TRAINING, "", "the", "\r\n"])
def test_round_trip_and_bytes_are_exact(kind, text):
    tokenizer = kinds()[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.token_bytes()[ids].sum() == len(text.encode())
    assert tokenizer.encode_batch([text, text]) == [ids, ids]
    assert max(ids, default=0) < tokenizer.vocab_size


def test_byte_ids_are_the_bytes():
    assert byte().encode(HARD) == list(HARD.encode())
    assert byte().encode("<|im_start|>a<|im_end|>\n") == [257, 97, 258, 10]
    assert byte().encode("<|im_end|>", special=False) == list(b"<|im_end|>")
    assert byte().vocab_size == 259
    assert byte().decode(list(range(256))) == bytes(range(256)).decode("utf-8", "replace")


def test_the_byte_alphabet_is_gpt2s():
    from tokenizers.pre_tokenizers import ByteLevel

    assert sorted(byte_alphabet()) == sorted(ByteLevel.alphabet())
    assert (byte_alphabet()[ord(" ")], byte_alphabet()[ord("\n")], byte_alphabet()[ord("a")]) == ("Ġ", "Ċ", "a")


def test_special_ids_and_ends():
    for tokenizer in (byte(), bpe(TRAINING, 300)):
        size = tokenizer.vocab_size
        assert tokenizer.token(tokenizer.eos_id) == "<|endoftext|>"
        assert (tokenizer.eos_id, tokenizer.eos_ids) == (size - 3, (size - 3, size - 1))
        assert [tokenizer.token(index) for index in tokenizer.eos_ids] == ["<|endoftext|>", "<|im_end|>"]
        assert tokenizer.token_bytes()[-3:].tolist() == [0, 0, 0]
        assert tokenizer.decode([97, tokenizer.eos_id], skip_special=True) == tokenizer.decode([97])
    plain = character(TRAINING)
    assert (plain.eos_id, plain.eos_ids, plain.pad_id) == (None, (), None)
    assert plain.vocab_size == len(set("".join(TRAINING)))
    assert character(["ab"], ["<|endoftext|>"]).eos_id == 2


def test_offsets_are_characters_of_the_text():
    ids, offsets = byte().encode_with_offsets("aé😀<|im_end|>")
    assert ids == [97, 0xC3, 0xA9, 0xF0, 0x9F, 0x98, 0x80, 258]
    assert offsets == [(0, 1), (1, 2), (1, 2), (2, 3), (2, 3), (2, 3), (2, 3), (3, 13)]
    for tokenizer in (bpe(TRAINING, 300), character(TRAINING)):
        ids, offsets = tokenizer.encode_with_offsets(TRAINING[0])
        assert "".join(TRAINING[0][start:stop] for start, stop in offsets) == TRAINING[0]
        assert [tokenizer.decode([one]) for one in ids] == [TRAINING[0][start:stop] for start, stop in offsets]


def test_an_unknown_character_is_named():
    for call in (
        lambda t: t.encode("cab"),
        lambda t: t.encode_batch(["a", "cb"]),
        lambda t: t.encode_with_offsets("c"),
    ):
        with pytest.raises(UserError, match=r"'c' \(U\+0063\).*tokenizer.name: byte"):
            call(character(["ab"]))


def test_bpe_learns_and_is_the_same_again():
    first, again = bpe(TRAINING, 300), bpe(TRAINING, 300)
    assert first.fingerprint == again.fingerprint != bpe(TRAINING, 301).fingerprint
    assert first.vocab_size == 300
    assert len(first.encode("the cat")) < len("the cat")
    with pytest.raises(UserError, match="Set at least 259"):
        bpe(TRAINING, 258)


@pytest.mark.parametrize("kind", ["byte", "character", "bpe"])
def test_saved_loads_here_and_in_transformers(kind, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = kinds()[kind]
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert (again.fingerprint, again.eos_ids, again.pad_id) == (
        tokenizer.fingerprint,
        tokenizer.eos_ids,
        tokenizer.pad_id,
    )
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in TRAINING:
        assert theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
        assert theirs.decode(tokenizer.encode(text)) == text
    assert (theirs.eos_token_id, theirs.pad_token_id, len(theirs)) == (
        tokenizer.eos_id,
        tokenizer.pad_id,
        tokenizer.vocab_size,
    )
    assert theirs.chat_template == tokenizer.chat_template


def test_settings_of_a_folder_in_their_various_spellings(tmp_path):
    bpe(TRAINING, 300).save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(
        '{"eos_token": {"content": "<|im_end|>"}, "bos_token": null, "chat_template": '
        '[{"name": "tools", "template": "T"}, {"name": "default", "template": "D"}]}'
    )
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": "<|im_start|>", "eos_token": "<|endoftext|>"}')
    loaded = Tokenizer.load(tmp_path)
    assert (loaded.bos_id, loaded.eos_id, loaded.eos_ids, loaded.chat_template) == (298, 299, (299,), "D")
    (tmp_path / "chat_template.jinja").write_text("J")
    assert Tokenizer.load(tmp_path).chat_template == "J"
    assert Tokenizer.load(tmp_path / "tokenizer.json").eos_id is None


def test_built_from_a_config(tmp_path):
    def node(**fields):
        defaults = {"path": None, "vocab_size": 300, "chat_template": None, "added_tokens": [], "template_options": {}}
        return SimpleNamespace(**{**defaults, **fields})

    assert build_tokenizer(node(name="byte", added_tokens=["<think>"]), lambda: []).encode("<think>") == [259]
    assert build_tokenizer(node(name="bpe"), lambda: TRAINING).fingerprint == bpe(TRAINING, 300).fingerprint
    bpe(TRAINING, 300).save(tmp_path)
    (tmp_path / "mine.jinja").write_text("{{ messages }}")
    loaded = build_tokenizer(
        node(name="pretrained", path=str(tmp_path), chat_template=str(tmp_path / "mine.jinja")), lambda: []
    )
    assert loaded.chat_template == "{{ messages }}" and loaded.encode(HARD) == bpe(TRAINING, 300).encode(HARD)
    for fields, message in (
        ({"name": "pretrained"}, "tokenizer.path: not set"),
        ({"name": "pretrained", "path": str(tmp_path / "no")}, "no such file"),
        ({"name": "pretrained", "path": str(tmp_path / "mine.jinja")}, "not a tokenizer.json"),
        ({"name": "byte", "chat_template": "chatmll"}, "neither a file nor one of: .*chatml"),
        ({"name": "character"}, "needs text"),
    ):
        with pytest.raises(UserError, match=message):
            build_tokenizer(node(**fields), lambda: [])


def test_long_texts_are_cut_where_tokens_do_not_change():
    text = ("one two\n\n  three\nfour\r\nfive \n six\n" * 50) + HARD
    for size in (1, 10, 100, 10_000):
        parts = pieces(text, size)
        assert "".join(parts) == text
        assert size > 1000 or len(parts) > 1
        for tokenizer in (byte(), bpe([text], 400)):
            assert [one for part in tokenizer.encode_batch(parts) for one in part] == tokenizer.encode(text)
    assert pieces("", 1) == [""] and pieces("\n\n\n", 1) == ["\n\n\n"]


def test_real_text_round_trips(tinyshakespeare: Path):
    text = tinyshakespeare.read_text()
    tokenizer = character([text])
    assert tokenizer.vocab_size == 65  # nanoGPT's vocabulary, in its order
    order = {one: index for index, one in enumerate(sorted(set(text)))}
    assert tokenizer.encode(text[:5000]) == [order[one] for one in text[:5000]]
    trained = bpe([text], 1000)
    ids = [one for part in trained.encode_batch(pieces(text, 1 << 16)) for one in part]
    assert trained.decode(ids) == text and trained.token_bytes()[ids].sum() == len(text.encode())
