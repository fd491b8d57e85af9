"""Fine-tuning rows as samples and batches: labels by hand, packed as alone, every row accounted for."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from tests.data.making import Rows

from ostinato.core.errors import UserError
from ostinato.data.batches import IGNORE, PADDING
from ostinato.data.chat_templates import TEMPLATES
from ostinato.data.conversations import Conversations
from ostinato.data.encoding import TrainedTokens
from ostinato.data.formats import DataOptions
from ostinato.data.jsonl import Jsonl
from ostinato.data.loader import evaluation_batches
from ostinato.data.rows import PromptResponse
from ostinato.data.tokenizer_kinds import byte, character

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_train.jsonl"


def qa(prompt, response):
    return {"prompt": prompt, "response": response}


@pytest.fixture
def form(tmp_path):
    def make(tokenizer=None, sequence_length=64, **options):
        return Conversations(DataOptions(tokenizer or character(["abcdefgh"]), sequence_length, tmp_path, **options))

    return make


def item(ids, trained):
    return TrainedTokens(np.array(ids), np.array(trained, dtype=bool))


A = item([5, 6, 7, 8], [0, 0, 1, 1])
B = item([1, 2, 3], [0, 1, 1])
C = item([9, 9], [1, 1])
X = IGNORE


def test_packed_batch_by_hand(form):
    batch = form(sequence_length=8).collate([[A, B], [C]])
    assert batch.tokens.tolist() == [[5, 6, 7, 8, 1, 2, 3, 0], [9, 9, 0, 0, 0, 0, 0, 0]]
    # shifted; the last position of each document and its first token are nobody's
    assert batch.labels.tolist() == [[X, 7, 8, X, 2, 3, X, X], [9, X, X, X, X, X, X, X]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 0], [0, 1, 0, 0, 0, 0, 0, 0]]
    assert batch.documents.tolist() == [[0, 0, 0, 0, 1, 1, 1, -1], [0, 0, -1, -1, -1, -1, -1, -1]]
    assert batch.trained.tolist() == [1, 2, 4, 5, 8]
    assert batch.counts() == {"tokens": 5, "sequences": 3}


def test_unpacked_batch_by_hand(form):
    batch = form(sequence_length=100, packing=False).collate([[A], [B]])
    assert batch.tokens.shape == (2, 64)  # the longest, rounded up to 64
    assert batch.labels[:, :5].tolist() == [[X, 7, 8, X, X], [2, 3, X, X, X]]
    assert (batch.labels[:, 5:] == X).all() and batch.documents is None
    assert batch.positions[:, :5].tolist() == [[0, 1, 2, 3, 0], [0, 1, 2, 0, 0]]
    long = item([1] * 65, [1] * 65)
    assert form(sequence_length=100, packing=False).collate([[long], [B]]).tokens.shape == (2, 100)  # never above
    assert form(sequence_length=200, packing=False).collate([[long], [B]]).tokens.shape == (2, 128)


def test_packing_changes_no_label_and_loses_no_token(form):
    draw = random.Random(3)
    width = 90
    packed, unpacked = form(sequence_length=width), form(sequence_length=width, packing=False)
    for _ in range(40):
        items = []
        for _ in range(draw.randint(1, 12)):
            size = draw.randint(1, width)
            trained = [False] + [draw.random() < 0.5 for _ in range(size - 1)]
            items.append(item([draw.randint(0, 7) for _ in range(size)], trained))
        layout = packed.layout([len(one.ids) for one in items])
        batch = packed.collate([[items[position] for position in row] for row in layout])
        alone = unpacked.collate([[one] for one in items])
        for number, row in enumerate(layout):
            for document, position in enumerate(row):
                where = batch.documents[number] == document
                size = len(items[position].ids)
                for name in ("tokens", "labels", "positions"):
                    expected = getattr(alone, name)[position, :size]
                    assert getattr(batch, name)[number][where].tolist() == expected.tolist(), name
        assert int((batch.documents != PADDING).sum()) == sum(len(one.ids) for one in items)
        assert (batch.labels[batch.documents == PADDING] == X).all()
        assert batch.counts() == alone.counts()
        assert batch.counts()["tokens"] == sum(int(one.trained.sum()) for one in items)


def test_evaluation_counts_the_same_tokens_packed_or_not(form):
    draw = random.Random(5)
    rows = Rows([qa("a" * draw.randint(1, 20), "b" * draw.randint(1, 30)) for _ in range(50)])
    for packing in (True, False):
        made = form(packing=packing)
        samples = made.prepare(rows, "validation")
        for size in (1, 3, 50):
            for ranks in (1, 2):
                batches = [b for rank in range(ranks) for b in evaluation_batches(samples, made, size, rank, ranks)]
                counts = [batch.counts() for batch in batches]
                assert sum(count["tokens"] for count in counts) == samples.receipt.trained_tokens
                assert sum(count["sequences"] for count in counts) == 50
                if packing:
                    held = sum(int((batch.documents != PADDING).sum()) for batch in batches)
                    assert held == samples.receipt.tokens


def test_remarks_are_in_the_receipt(form):
    rows = Rows([qa("a", "b"), qa("<|im_end|>", "b")])
    receipt = form(byte()).prepare(rows, "train").receipt
    assert list(receipt.remarks.values()) == [1] and list(receipt.places.values()) == [["rows:2"]]
    assert "  1 rows: a message spells a special token" in receipt.render()


def test_pad_id_equal_to_the_end_id_masks_no_end(form):
    tokenizer = byte().with_chat_template(TEMPLATES["plain"])
    assert tokenizer.pad_id == tokenizer.eos_id
    made = form(tokenizer, packing=False)
    samples = made.prepare(Rows([qa("a", "b"), qa("a", "b" * 9)]), "train")
    batch = made.collate([[samples[0]], [samples[1]]])
    for row in range(2):  # each answer's own end is a label once, padding never
        assert (batch.labels[row] == tokenizer.eos_id).sum() == 1
    assert (batch.tokens[0] == tokenizer.pad_id).sum() == 1 + 64 - len(samples[0].ids)
    assert batch.counts()["tokens"] == (1 + 1 + 1) + (1 + 9 + 1)  # a space, the answer, its end


def test_empty_batch_counts_nothing(form):
    for packing in (True, False):
        batch = form(sequence_length=1000, packing=packing).empty()
        assert batch.tokens.shape == (1, 64)
        assert batch.counts() == {"tokens": 0, "sequences": 0}
    assert form(sequence_length=10).empty().tokens.shape == (1, 10)


def test_long_rows_are_cut_and_stay_trained(form):
    rows = Rows([qa("ab", "cdefgh"), qa("ab", "cd"), qa("abc", "d"), qa("ab", "ccccc")])
    samples = form(sequence_length=4).prepare(rows, "train")
    assert samples[0].ids.tolist() == [0, 1, 2, 3] and samples[0].trained.tolist() == [False, False, True, True]
    assert [samples.length(i) for i in range(4)] == [4, 4, 4, 4]
    receipt = samples.receipt
    assert (receipt.rows, receipt.used, receipt.truncated, receipt.tokens, receipt.trained_tokens) == (4, 4, 2, 16, 7)
    assert receipt.places == {"truncated": ["rows:1", "rows:4"]}
    assert receipt.first == ["ab⟦cd⟧", "ab⟦cd⟧"]
    assert "truncated 2 (rows:1, rows:4)" in receipt.render()


def test_long_rows_are_dropped_and_places_stay_true(form):
    rows = Rows([qa("ab", "cdefgh"), qa("ab", "cd"), qa("ab", "ccccc"), qa("abc", "d"), qa("a", "b")])
    samples = form(sequence_length=4, overlong="drop").prepare(rows, "train")
    assert [samples[i].ids.tolist() for i in range(3)] == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1]]
    assert [samples.place(i) for i in range(3)] == ["rows:2", "rows:4", "rows:5"]
    assert samples.receipt.dropped == {"longer than 4 tokens": 2}
    assert samples.receipt.places == {"longer than 4 tokens": ["rows:1", "rows:3"]}


def test_halves_share_the_rows_and_each_tells_its_own(form):
    rows = Rows([qa("a", letters) for letters in ("b", "bcd", "c", "d", "efgh", "e")])
    samples = form(sequence_length=3, overlong="drop").prepare(rows, "train")
    kept, held = samples.split(0.5)  # of rows 1, 3, 4, 6
    assert [kept.place(i) for i in range(len(kept))] == ["rows:1", "rows:3"]
    assert [held.place(i) for i in range(len(held))] == ["rows:4", "rows:6"]
    assert (kept.receipt.rows, kept.receipt.used, kept.receipt.dropped) == (3, 2, {"longer than 3 tokens": 1})
    assert (held.receipt.rows, held.receipt.used, held.receipt.places) == (3, 2, {"longer than 3 tokens": ["rows:5"]})
    assert held.label == "train (held out)" and held[1].ids.tolist() == [0, 4]
    assert (held.receipt.tokens, held.receipt.trained_tokens) == (4, 2)
    assert len({samples.fingerprint, kept.fingerprint, held.fingerprint}) == 3
    inner, outer = held.split(0.5)
    assert (inner.place(0), outer.place(0), len(inner), len(outer)) == ("rows:4", "rows:6", 1, 1)
    with pytest.raises(IndexError):
        kept[2]


def test_row_without_a_trained_token_is_an_error_with_its_place(form):
    chat = {"messages": [{"role": "user", "content": "hello"}]}
    chats = [{"messages": PromptResponse(*pair).conversation().messages} for pair in (("a", "b"), ("a" * 70, "b"))]
    rows = Rows([chats[0], chat, chats[1]])
    with pytest.raises(UserError) as caught:
        form(byte()).prepare(rows, "train")
    # a turn: <|im_start|>, "user\n" or "assistant\n", the content, <|im_end|>, "\n"
    assert (1 + 5 + 5 + 2, 1 + 5 + 70 + 2 + 1 + 10 + 1 + 2) == (13, 92)
    assert str(caught.value).splitlines() == [
        "of the 3 rows read, 2 cannot be trained on:",
        "rows:2: nothing of its 13 tokens is trained on",
        "rows:3: nothing of the first 64 of its 92 tokens is trained on",
        "data.on_empty: drop leaves such rows out.",
        "Raise data.sequence_length, or set data.overlong: drop.",
    ]
    samples = form(byte(), on_empty="drop").prepare(rows, "train")
    assert samples.receipt.dropped == {"no trained token": 1, "no trained token in the first 64": 1}
    assert len(samples) == 1


def test_every_mistake_is_named_but_not_thousands(form, tmp_path):
    file = tmp_path / "rows.jsonl"
    lines = [json.dumps(qa("a", "b")), "{", json.dumps({"q": 1}), json.dumps(qa("a", "\t"))]
    file.write_text("\n".join(lines))
    with pytest.raises(UserError) as caught:
        form().prepare(Jsonl(0, path=file), "train")
    first, *mistakes = str(caught.value).splitlines()
    assert first == "of the 4 rows read, 3 cannot be trained on:"
    assert [line.partition(": ")[0] for line in sorted(mistakes)] == [f"{file}:{line}" for line in (2, 3, 4)]
    with pytest.raises(UserError, match=r"of the 1,024 rows read, 1024 cannot.*(\n.*){10}\n\.\.\. and 1014 more"):
        form().prepare(Rows([{f"q{number}": 1} for number in range(5000)]), "train")
    with pytest.raises(UserError, match=r"1024 cannot.*\nrows:1: .* q fit.* \(1,023 more like it, the next rows:2\)$"):
        form().prepare(Rows([{"q": 1}] * 5000), "train")


def test_nothing_left_is_an_error(form):
    with pytest.raises(UserError, match="all 2 rows were dropped: 2 longer than 2 tokens"):
        form(sequence_length=2, overlong="drop").prepare(Rows([qa("ab", "c"), qa("ab", "cd")]), "train")


def test_prepared_once_for_the_same_content_and_options(form, tmp_path):
    rows = Rows([qa("ab", "cd")])
    first = form().prepare(rows, "train")
    again = form(packing=False).prepare(rows, "other name")  # packing shapes no sample
    assert again.shards.folder == first.shards.folder and again.receipt.label == "other name"
    others = [
        form(sequence_length=3),
        form(overlong="drop"),
        form(on_empty="drop"),
        form(train_on="all"),
        form(character(["abcdefghi"])),
    ]
    folders = {made.prepare(rows, "train").shards.folder for made in others}
    assert len(folders) == 5 and first.shards.folder not in folders
    first.shards.verify()


def test_describe_shows_what_is_trained(form):
    made = form(byte())
    chat, text = (made.prepare(Rows([row]), "train") for row in (qa("2+2?", "vier ü"), {"text": "ü is text"}))
    assert made.describe(chat[0]) == "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n⟦vier ü<|im_end|>⟧\n"
    # the first token is half of ü, which no text can show
    assert made.describe(text[0]) == "\ufffd⟦\ufffd is text<|endoftext|>⟧"


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (qa("a", "b"), "prompt and response"),
        ({"prompt": "a", "completion": "b"}, "prompt and response"),
        ({"question": "a", "answer": "b"}, "question and answer"),
        ({"instruction": "a", "input": "", "output": "b"}, "instruction and output (Alpaca)"),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            "conversations (ShareGPT)",
        ),
        ({"messages": PromptResponse("a", "b").conversation().messages}, "messages"),
    ],
)
def test_the_receipt_tells_what_rows_are(form, row, kind):
    made = form(byte())
    samples = made.prepare(Rows([row, row]), "train")
    assert samples.receipt.kind == kind and f"\n  rows are {kind}\n" in samples.receipt.render()
    # all of them are the same conversation
    assert made.describe(samples[1]) == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n⟦b<|im_end|>⟧\n"


def test_one_dataset_holds_one_kind(form):
    with pytest.raises(UserError, match=r"rows:2: the keys text are text, and the rows before are prompt and response"):
        form(byte()).prepare(Rows([qa("a", "b"), {"text": "a"}, qa("a", "b")]), "train")


def test_tools_are_told(form):
    chat = PromptResponse("a", "b").conversation().messages
    calling = [*chat, {"role": "tool", "content": "4"}, {"role": "assistant", "content": "4"}]
    rows = [{"messages": chat}, {"messages": calling}, {"messages": chat, "tools": [{"name": "f"}]}]
    receipt = form(byte()).prepare(Rows(rows), "train").receipt
    assert receipt.remarks == {"with tools or tool calls": 2}
    assert receipt.places == {"with tools or tool calls": ["rows:2", "rows:3"]}


@pytest.mark.skipif(not GSM8K.is_file(), reason="real data is not beside the project (../shared/data)")
def test_real_rows_keep_every_answer(form):
    source = Jsonl(0, path=GSM8K, columns={"prompt": "question", "response": "answer"})
    made = form(byte(), sequence_length=2048)
    samples = made.prepare(source, "gsm8k")
    assert samples.receipt.used == samples.receipt.rows == len(source) == 6500 and not samples.receipt.truncated
    ends = [0, 1, 3249, 6499]
    for index in ends:
        one = samples[index]
        answer = source[index]["response"].encode()
        assert bytes(one.ids[one.trained][:-1].tolist()) == answer and one.ids[one.trained][-1] == 258
    # trained on: every answer's bytes and one end each
    answers = sum(len(source[index]["response"].encode()) for index in range(6500))
    assert samples.receipt.trained_tokens == answers + 6500
