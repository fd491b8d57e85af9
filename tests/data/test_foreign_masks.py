"""Masks with tokenizers that are not byte-level, and where answers end: by the template, whatever the settings say."""

import re

import numpy as np
import pytest
from tests.data.foreign import bpe_pieces, sentencepiece, unigram_pieces
from tests.data.test_encoding import SPECIALS, by_hand, encode

from ostinato.data.chat_templates import TEMPLATES
from ostinato.data.encoding import RowEncoder
from ostinato.data.rows import RowError
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokenizer_kinds import bpe, byte, character

WORDS = {
    "messages": [
        {"role": "user", "content": "the world,  hello the"},
        {"role": "assistant", "content": "hello\nthe  world 世界 é\U0001f600!"},
        {"role": "user", "content": "in 12?"},
        {"role": "assistant", "content": "the ing"},
    ]
}
FILES = {
    "llama": sentencepiece(bpe_pieces(["<unk>", "<s>", "</s>"], []), algorithm=2),
    "gemma": sentencepiece(bpe_pieces(["<unk>", "<s>", "</s>"], ["\n\n"]), algorithm=2, dummy_prefix=False),
    "unigram": sentencepiece(
        [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
        + unigram_pieces()[3:]
        + [(f"<0x{value:02X}>", -20.0, 6) for value in range(256)],
        algorithm=1,
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("kind", FILES)
def test_masks_of_sentencepiece_tokenizers(tmp_path, kind, name):
    (tmp_path / "tokenizer.model").write_bytes(FILES[kind])
    added, names = SPECIALS[name]
    tokenizer = Tokenizer.load(tmp_path).extended(["<|endoftext|>", *added], **names)
    tokenizer = tokenizer.with_chat_template(TEMPLATES[name])
    encoded = RowEncoder(tokenizer).encode([WORDS])[0]
    text, spans = tokenizer.chat.spans(WORDS["messages"], [1, 3])
    # Each trained run of tokens decodes to its span, and begins and ends where a token does; a space in front of a run,
    # which these tokenizers do not write at the start of a text, does not count.
    edges = np.flatnonzero(np.diff([0, *encoded.trained, 0])).reshape(-1, 2)
    assert len(edges) == 2
    for (first, behind), (start, stop) in zip(edges, spans, strict=True):
        told = tokenizer.decode(encoded.ids[first:behind].tolist())
        assert re.sub(r"\s+", " ", told).strip() == re.sub(r"\s+", " ", text[start:stop]).strip()
        assert int(encoded.ids[behind - 1]) in tokenizer.eos_ids
        before = tokenizer.decode(encoded.ids[:first].tolist())
        assert WORDS["messages"][1]["content"][:5] not in before[-12:] and not before.endswith("hello\n")
    assert encoded.ids.tolist() == tokenizer.encode(text)


def test_the_templates_end_of_turn_ends_answers_whatever_the_settings_say():
    own = "{% for m in messages %}<T>{{ m.role }}:{{ m.content }}<END>\n{% endfor %}"
    own += "{% if add_generation_prompt %}<T>assistant:{% endif %}"
    tokenizer = bpe(["ab"], 300).extended(["<T>", "<END>"], eos="<|endoftext|>").with_chat_template(own)
    assert [tokenizer.token(index) for index in tokenizer.eos_ids] == ["<|endoftext|>", "<|im_end|>", "<END>"]
    ids, mask = encode(tokenizer, {"prompt": "a", "response": "b"})
    trained = [one for one, flag in zip(ids, mask, strict=True) if flag]
    assert tokenizer.decode(trained) == "b<END>"  # without blocks, so by growing prefixes; not the line break behind it


def test_a_stop_that_is_no_token_or_is_missing_is_refused():
    for source in (
        "{% for m in messages %}{{ m.content }}|END|{% endfor %}",
        "{% for m in messages %}{{ m.content }}\n{% endfor %}",
    ):
        for train_on in ("assistant", "all"):
            tokenizer = byte().with_chat_template(source)
            with pytest.raises(RowError, match=r"not with a token that ends a turn .*a model so trained never stops"):
                encode(tokenizer, {"prompt": "a", "response": "b"}, train_on)
    outside = TEMPLATES["chatml"].replace(
        "message.content + '<|im_end|>' }}\n        {%- endgeneration %}",
        "message.content }}\n        {%- endgeneration %}{{- '<|im_end|>' }}",
    )
    assert outside != TEMPLATES["chatml"]
    with pytest.raises(RowError, match="never stops. Put the stop token inside"):
        encode(byte().with_chat_template(outside), {"prompt": "a", "response": "b"})


def test_answers_without_any_end_are_told(caplog):
    RowEncoder(byte())
    assert not caplog.text
    RowEncoder(character(["ab"]))
    assert "no token ends an answer: the tokenizer has none" in caplog.text


def test_a_text_closed_behind_the_last_turn_trains_on_the_turn_only():
    """As Phi-3's template does: the end of the text is no part of the answer, and earlier turns are still found."""
    source = TEMPLATES["phi3"].replace("{%- generation %}", "").replace("{%- endgeneration %}", "")
    tokenizer = byte(SPECIALS["phi3"][0]).with_chat_template(source)
    marked = (
        "<|user|>\na<|end|>\n<|assistant|>\n⟦b<|end|>⟧\n<|user|>\nc<|end|>\n<|assistant|>\n⟦d<|end|>⟧\n<|endoftext|>"
    )
    turns = [{"role": ("user", "assistant")[n % 2], "content": one} for n, one in enumerate("abcd")]
    assert encode(tokenizer, {"messages": turns}) == by_hand(tokenizer, marked)
