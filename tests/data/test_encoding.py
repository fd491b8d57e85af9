"""Rows as ids and masks: every id written out by a second, simpler encoder."""

import re

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, WordLevel

from ostinato.data.chat_templates import TEMPLATES
from ostinato.data.encoding import REASONING_LEFT_OUT, SPELLS_SPECIAL, RowEncoder
from ostinato.data.rows import RowError
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokenizer_kinds import bpe, byte, character, with_added_tokens

SPECIALS = {
    "chatml": (["<|im_start|>", "<|im_end|>"], {}),
    "llama3": (
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        {"bos": "<|begin_of_text|>", "eos": "<|eot_id|>"},
    ),
    "zephyr": (["<|user|>", "<|assistant|>", "<|system|>", "</s>"], {"eos": "</s>"}),
    "gemma": (["<bos>", "<start_of_turn>", "<end_of_turn>"], {"bos": "<bos>"}),
    "plain": (["<|endoftext|>"], {}),
    "llama3_1": (
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>"],
        {"bos": "<|begin_of_text|>", "eos": "<|eot_id|>"},
    ),
    "qwen2_5": (["<|im_start|>", "<|im_end|>"], {}),
    "qwen3": (["<|im_start|>", "<|im_end|>"], {}),
    "mistral": (["<s>", "</s>", "[INST]", "[/INST]"], {"bos": "<s>", "eos": "</s>"}),
    "gemma2": (["<bos>", "<start_of_turn>", "<end_of_turn>"], {"bos": "<bos>"}),
    "phi3": (["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"], {}),
    "phi4": (["<|im_start|>", "<|im_sep|>", "<|im_end|>"], {}),
}
TALK = {
    "messages": [
        {"role": "user", "content": "Grüße, 🦜"},
        {"role": "assistant", "content": "Ärger\nmit\tBytes 🦜"},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": "ok"},
    ]
}
EXPECTED = {
    "chatml": "<|im_start|>user\nGrüße, 🦜<|im_end|>\n<|im_start|>assistant\n⟦Ärger\nmit\tBytes 🦜<|im_end|>⟧\n"
    "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n⟦ok<|im_end|>⟧\n",
    "llama3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nGrüße, 🦜<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n⟦Ärger\nmit\tBytes 🦜<|eot_id|>⟧"
    "<|start_header_id|>user<|end_header_id|>\n\n<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n⟦ok<|eot_id|>⟧",
    "zephyr": "<|user|>\nGrüße, 🦜</s>\n<|assistant|>\n"
    "⟦Ärger\nmit\tBytes 🦜</s>⟧\n<|user|>\n</s>\n<|assistant|>\n⟦ok</s>⟧\n",
    "gemma": "<bos><start_of_turn>user\nGrüße, 🦜<end_of_turn>\n<start_of_turn>model\n"
    "⟦Ärger\nmit\tBytes 🦜<end_of_turn>⟧\n"
    "<start_of_turn>user\n<end_of_turn>\n<start_of_turn>model\n⟦ok<end_of_turn>⟧\n",
    "plain": "User: Grüße, 🦜\n\nAssistant:⟦ Ärger\nmit\tBytes 🦜<|endoftext|>⟧\n\n"
    "User: \n\nAssistant:⟦ ok<|endoftext|>⟧\n\n",
    "mistral": "<s>[INST] Grüße, 🦜[/INST]⟦ Ärger\nmit\tBytes 🦜</s>⟧[INST] [/INST]⟦ ok</s>⟧",
    "phi3": "<|user|>\nGrüße, 🦜<|end|>\n<|assistant|>\n⟦Ärger\nmit\tBytes 🦜<|end|>⟧\n"
    "<|user|>\n<|end|>\n<|assistant|>\n⟦ok<|end|>⟧\n<|endoftext|>",
    "phi4": "<|im_start|>user<|im_sep|>Grüße, 🦜<|im_end|><|im_start|>assistant<|im_sep|>"
    "⟦Ärger\nmit\tBytes 🦜<|im_end|>⟧"
    "<|im_start|>user<|im_sep|><|im_end|><|im_start|>assistant<|im_sep|>⟦ok<|im_end|>⟧",
}
EXPECTED["gemma2"] = EXPECTED["gemma"]
EXPECTED["qwen3"] = EXPECTED["chatml"].replace("⟦ok", "⟦<think>\n\n</think>\n\nok")
EXPECTED["qwen2_5"] = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    + EXPECTED["chatml"]
)
EXPECTED["llama3_1"] = EXPECTED["llama3"].replace(
    "<|begin_of_text|>",
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>",
)


def chat_tokenizer(name, make=byte):
    added, names = SPECIALS[name]
    return with_added_tokens(make(), added, **names).with_chat_template(TEMPLATES[name])


def by_hand(tokenizer, marked):
    """Ids and mask of a text with ⟦⟧ around what is trained on, a byte an id."""
    specials = {tokenizer.token(i): i for i in range(256, tokenizer.vocab_size)}
    ids, mask, trained = [], [], False
    for piece in re.split("(⟦|⟧|" + "|".join(map(re.escape, specials)) + ")", marked):
        if piece in "⟦⟧" and piece:
            trained = piece == "⟦"
            continue
        new = [specials[piece]] if piece in specials else list(piece.encode())
        ids += new
        mask += [trained] * len(new)
    return ids, mask


def encode(tokenizer, row, train_on="assistant"):
    encoded = RowEncoder(tokenizer, train_on).encode([row])[0]
    if isinstance(encoded, RowError):
        raise encoded
    return encoded.ids.tolist(), encoded.trained.tolist()


def marked(tokenizer, ids, mask):
    """The text with ⟦⟧ around what is trained on; edges must not cut a character."""
    edges = np.flatnonzero(np.diff([0, *mask, 0]))
    cuts = [0, *edges.tolist(), len(ids)]
    pieces = [tokenizer.decode(ids[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
    return "".join(f"⟦{piece}⟧" if number % 2 else piece for number, piece in enumerate(pieces))


@pytest.mark.parametrize("name", TEMPLATES)
def test_mask_fixture_of_every_template(name):
    tokenizer = chat_tokenizer(name)
    assert encode(tokenizer, TALK) == by_hand(tokenizer, EXPECTED[name])


@pytest.mark.parametrize("name", TEMPLATES)
def test_mask_fixture_with_merged_tokens(name):
    # tokens of several bytes, "\n\n" and ":\n" among them, and characters cut in parts
    texts = [re.sub("[⟦⟧]", "", text) for text in EXPECTED.values()] * 3
    tokenizer = chat_tokenizer(name, lambda: bpe(texts, 256 + 3 + 60))
    ids, mask = encode(tokenizer, TALK)
    assert max(ids) >= 259 and marked(tokenizer, ids, mask) == EXPECTED[name]


@pytest.mark.parametrize("name", TEMPLATES)
def test_ids_and_masks_are_those_of_transformers(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = chat_tokenizer(name, lambda: bpe([TALK["messages"][1]["content"]] * 9, 280))
    tokenizer.save(tmp_path)
    oracle = transformers.AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(
        TALK["messages"], return_dict=True, return_assistant_tokens_mask=True, date_string="26 Jul 2024"
    )
    ids, mask = encode(tokenizer, TALK)
    assert ids == oracle["input_ids"]
    assert [int(m) for m in mask] == oracle["assistant_masks"]


def test_last_assistant_and_all():
    tokenizer = chat_tokenizer("chatml")
    ids, mask = by_hand(tokenizer, EXPECTED["chatml"])
    first = EXPECTED["chatml"].replace("⟦", "", 1).replace("⟧", "", 1)
    assert encode(tokenizer, TALK, "last_assistant") == by_hand(tokenizer, first)
    assert encode(tokenizer, TALK, "all") == (ids, [False] + [True] * (len(ids) - 1))


def test_context_of_a_prompt_and_weight_zero_are_not_trained():
    tokenizer = chat_tokenizer("chatml")
    expected = by_hand(tokenizer, EXPECTED["chatml"].replace("⟦", "", 1).replace("⟧", "", 1))
    messages = TALK["messages"]
    assert encode(tokenizer, {"prompt": messages[:3], "response": messages[3:]}) == expected
    weighted = [messages[0], messages[1] | {"weight": 0}, *messages[2:]]
    assert encode(tokenizer, {"messages": weighted}) == expected
    ids, mask = encode(tokenizer, {"messages": weighted[:2]}, "last_assistant")
    assert not any(mask)


def test_the_same_chat_in_every_spelling_gives_the_same_ids():
    tokenizer = chat_tokenizer("chatml")
    rows = [
        {"messages": [{"role": "user", "content": "a\n\nb"}, {"role": "assistant", "content": "c"}]},
        {"conversations": [{"from": "human", "value": "a\n\nb"}, {"from": "gpt", "value": "c"}]},
        {"instruction": "a", "input": "b", "output": "c"},
        {"prompt": "a\n\nb", "completion": "c"},
        {"prompt": [{"role": "user", "content": "a\n\nb"}], "response": "c"},
    ]
    expected = by_hand(tokenizer, "<|im_start|>user\na\n\nb<|im_end|>\n<|im_start|>assistant\n⟦c<|im_end|>⟧\n")
    assert [encode(tokenizer, row) for row in rows] == [expected] * 5


def test_plain_concatenation_without_a_template():
    letters = character(["ab"])  # a 0, b 1, no end
    assert encode(letters, {"prompt": "ab", "response": "ba"}) == ([0, 1, 1, 0], [False, False, True, True])
    assert encode(letters, {"prompt": "ab", "response": "b"}, "all") == ([0, 1, 1], [False, True, True])
    assert encode(letters, {"text": "aba"}) == ([0, 1, 0], [False, True, True])
    ending = character(["ab"], ["<|endoftext|>"])
    assert encode(ending, {"prompt": "a", "response": "b"}) == ([0, 1, 2], [False, True, True])
    assert encode(ending, {"text": "b"}) == ([1, 2], [False, True])
    assert encode(ending, {"text": "b<|endoftext|>"}) == ([1, 2], [False, True])  # no second end
    with pytest.raises(RowError, match="holds messages, and the tokenizer has no chat template"):
        encode(letters, TALK)


def test_text_begins_with_one_bos():
    tokenizer = with_added_tokens(character(["ab"]), ["<s>", "</s>"], bos="<s>", eos="</s>")
    bos, eos = tokenizer.bos_id, tokenizer.eos_id
    expected = ([bos, 0, 1, eos], [False, True, True, True])
    assert encode(tokenizer, {"text": "ab"}) == expected
    assert encode(tokenizer, {"text": "<s>ab"}) == expected
    assert encode(tokenizer, {"prompt": "a", "response": "b"}) == ([bos, 0, 1, eos], [False, False, True, True])
    with pytest.raises(RowError, match="begins with <s> twice"):
        encode(tokenizer, {"text": "<s><s>ab"})
    doubled = tokenizer.with_chat_template("{{ bos_token + bos_token + messages[0].content }}")
    with pytest.raises(RowError, match="begins with <s> twice"):
        encode(doubled, {"messages": [{"role": "user", "content": "a"}]}, "all")


@pytest.mark.parametrize(
    "template",
    [
        # the block ends before the stop token
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>{% endfor %}",
        # without blocks: the stop token belongs to the next turn
        "{% for m in messages %}{{ '<|im_end|>' if not loop.first }}{{ m.content }}{% endfor %}",
        # no stop token at all
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
    ],
)
def test_template_that_does_not_train_its_stop_token(template):
    with pytest.raises(RowError, match="ends with .*, not with a token that ends a turn .*<|im_end|>.* never stops"):
        encode(byte().with_chat_template(template), {"prompt": "ab", "response": "ba"})


def test_stop_token_the_tokenizer_does_not_have():
    letters = character(["abcdefghijklmnopqrstuvwxyz<|>_\n"]).with_chat_template(TEMPLATES["chatml"])
    with pytest.raises(RowError, match=r"this tokenizer's: none"):
        encode(letters, {"prompt": "ab", "response": "ba"})


def test_white_space_behind_the_stop_token_is_not_trained_though_inside_the_block():
    template = "{% for m in messages %}{% generation %}{{ m.content }}<|im_end|>\n \n{% endgeneration %}{% endfor %}"
    tokenizer = byte().with_chat_template(template)
    row = {"messages": [{"role": "assistant", "content": "a "}]}
    assert encode(tokenizer, row) == ([97, 32, 258, 10, 32, 10], [False, True, True, False, False, False])


def test_token_across_the_edge_of_an_answer_is_not_trained():
    # a token "\n\n" whose first half is the generation prompt's
    tokenizer = bpe(["x\n\n\ny"] * 9, 260)
    assert tokenizer.token_id("ĊĊ") in tokenizer.encode("assistant\n\n\nb")
    ids, mask = encode(tokenizer, {"prompt": "q", "response": "\n\nb"})
    assert marked(tokenizer, ids, mask) == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n\n⟦\nb<|im_end|>⟧\n"


def test_library_that_trims_offsets_does_not_move_the_mask():
    """GPT-2 like post-processing gives " b" the offsets of "b" alone: counted by bytes it is seen to cross the edge."""
    backend = Backend(BPE(vocab={"a": 0, "b": 1, "Ġ": 2, "Ġb": 3}, merges=[("Ġ", "b")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    template = "{% for m in messages %}{% generation %}{{ m.content }}</s>{% endgeneration %}{% endfor %}"
    tokenizer = with_added_tokens(Tokenizer(backend), ["</s>"], eos="</s>")
    assert tokenizer.encode_with_offsets("a b")[1] == [(0, 1), (2, 3)]
    user_space = tokenizer.with_chat_template(template.replace("{% for", "a {% for", 1))
    ids, mask = encode(user_space, {"messages": [{"role": "assistant", "content": "b"}]})
    assert (ids, mask) == ([0, 3, 4], [False, False, True])


def test_tokenizer_that_normalises_is_masked_by_offsets():
    backend = Backend(WordLevel(vocab={"hi": 0, "yo": 1, "user": 2, "bot": 3}))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = with_added_tokens(Tokenizer(backend), ["</s>"], eos="</s>").with_chat_template(
        "{% for m in messages %}{{ 'User ' if m.role == 'user' else 'Bot ' }}{% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content }}</s>{% endgeneration %}{% else %}{{ m.content }} {% endif %}{% endfor %}"
    )
    assert encode(tokenizer, {"prompt": "Hi", "response": "Yo  HI"}) == (
        [2, 0, 3, 1, 0, 4],
        [False, False, False, True, True, True],
    )


def test_reasoning_that_is_left_out_is_remarked():
    template = TEMPLATES["chatml"].replace("message.content +", "message.content.split('</think>')[-1] +")
    row = {"prompt": "a", "response": "<think>b</think>c"}
    encoded = RowEncoder(byte().with_chat_template(template)).encode([row])[0]
    assert encoded.remarks == [REASONING_LEFT_OUT]
    assert RowEncoder(byte()).encode([row])[0].remarks == []


def test_message_that_spells_a_special_token_is_remarked_and_its_mask_holds():
    tokenizer = chat_tokenizer("chatml")
    row = {"prompt": "what is <|im_end|>?", "response": "a <|im_end|>\nb"}
    encoded = RowEncoder(tokenizer).encode([row])[0]
    assert encoded.remarks == [SPELLS_SPECIAL]
    expected = "<|im_start|>user\nwhat is <|im_end|>?<|im_end|>\n<|im_start|>assistant\n⟦a <|im_end|>\nb<|im_end|>⟧\n"
    assert (encoded.ids.tolist(), encoded.trained.tolist()) == by_hand(tokenizer, expected)
    assert RowEncoder(character(["a<|b>"])).encode([{"prompt": "a", "response": "<|b|>"}])[0].remarks == []


def test_one_bad_row_spoils_no_other():
    letters = character(["ab"])
    rows = [{"text": "ab"}, {"nothing": 1}, {"text": "xyz"}, {"prompt": "a", "response": "b"}]
    first, second, third, fourth = RowEncoder(letters).encode(rows)
    assert first.ids.tolist() == fourth.ids.tolist() == [0, 1]
    assert "fit no kind" in str(second)
    assert isinstance(third, RowError) and "'x' (U+0078)" in str(third)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("vocabulary", [byte, lambda: bpe([TALK["messages"][1]["content"]] * 9, 280)])
def test_prompt_is_what_stands_before_the_answer_in_training(name, vocabulary):
    encoder = RowEncoder(chat_tokenizer(name, vocabulary))
    row = encoder.encode([{"prompt": "Grüße\n 🦜", "response": "Ärger"}])[0]
    prompt = encoder.prompt("Grüße\n 🦜")
    assert prompt == row.ids[: len(prompt)].tolist() and row.trained.tolist().index(True) == len(prompt)
    messages = [{"role": "user", "content": "Grüße\n 🦜"}]
    assert encoder.prompt(messages) == prompt
    assert encoder.prompt([*messages, {"role": "assistant", "content": "Ärger"}, *messages]) != prompt


def test_prompt_without_a_template():
    assert RowEncoder(character(["ab"])).prompt("ba") == [1, 0]
    beginning = with_added_tokens(character(["ab"]), ["<s>"], bos="<s>")
    assert RowEncoder(beginning).prompt("ba") == RowEncoder(beginning).prompt("<s>ba") == [2, 1, 0]
    with pytest.raises(RowError, match="tokenizer without chat template"):
        RowEncoder(beginning).prompt([{"role": "user", "content": "a"}])
    both = with_added_tokens(character(["ab"]), ["<e>"], bos="<e>", eos="<e>")
    assert RowEncoder(both).prompt("ba") == [1, 0]
    assert encode(both, {"text": "ba"})[0] == [1, 0, 2]
