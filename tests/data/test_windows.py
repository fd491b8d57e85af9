"""Pre-training samples against the rule read literally, token by token."""

from dataclasses import replace

import numpy as np
import pytest

from ostinato.core.errors import UserError
from ostinato.data import documents
from ostinato.data.batches import IGNORE, PADDING
from ostinato.data.tokenizer_kinds import byte, character
from ostinato.data.windows import Windows

EOS = 256
TEXTS = ["abcdefg", "h", "ij", "klmnopqrstuvwxyz0123456789", "AB"]


def collated(form, samples, indices=None):
    indices = range(len(samples)) if indices is None else indices
    return form.collate([[samples[index]] for index in indices])


def by_hand(texts, length):
    """(tokens, labels, positions, documents) of every window, straight from section 1.3 of the specification."""
    stream, document = [], []
    for number, text in enumerate(texts):
        stream += [*text.encode(), EOS]
        document += [number] * (len(text.encode()) + 1)
    windows = []
    for first in range(0, len(stream) - 1, length):
        columns = []
        for t in range(first, first + length):
            if t + 1 >= len(stream):
                columns.append((EOS, IGNORE, None, PADDING))
                continue
            label = stream[t + 1] if document[t + 1] == document[t] else IGNORE
            begin = max(first, document.index(document[t]))
            columns.append((stream[t], label, t - begin, document[t] - document[first]))
        windows.append(columns)
    return windows


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 16, 41, 42, 43, 100])
def test_windows_are_those_of_the_rule(windows, length):
    form, samples = windows(TEXTS, length)
    expected = by_hand(TEXTS, length)
    assert len(samples) == len(expected)
    batch = collated(form, samples)
    for row, columns in enumerate(expected):
        tokens, labels, positions, documents = (list(part) for part in zip(*columns, strict=True))
        assert batch.tokens[row].tolist() == tokens
        assert batch.labels[row].tolist() == labels
        assert [p for p, q in zip(batch.positions[row].tolist(), positions, strict=True) if q is not None] == [
            q for q in positions if q is not None
        ]
        if batch.documents is not None:
            assert batch.documents[row].tolist() == documents
        else:  # then no row has a boundary inside
            assert set(documents) <= {0, PADDING}
        assert samples.length(row) == sum(position is not None for position in positions)
    trained = sum(label != IGNORE for columns in expected for _, label, _, _ in columns)
    assert batch.counts()["tokens"] == trained == samples.receipt.trained_tokens


def test_every_token_but_a_documents_first_is_a_label_once(windows):
    form, samples = windows(TEXTS, 7)
    labels = [one for one in collated(form, samples).labels.flatten().tolist() if one != IGNORE]
    assert labels == [token for text in TEXTS for token in [*text.encode(), EOS][1:]]


def test_documents_is_none_where_no_window_has_a_boundary(windows):
    form, samples = windows(["a" * 32, "b" * 31], 8)  # windows 0 to 3 are the first document, its eos opens the next
    assert collated(form, samples, [0, 1, 2, 3]).documents is None
    mixed = collated(form, samples, [0, 4])
    assert mixed.documents.tolist() == [[0] * 8, [0] + [1] * 7]
    assert mixed.positions.tolist() == [list(range(8)), [0, *range(7)]]
    assert mixed.counts() == {"tokens": 15, "sequences": 2}  # the eos in front of the boundary predicts nothing
    form, samples = windows(["abc", "defgh"], 4)  # the boundary is the label of the last column
    first = collated(form, samples, [0])
    assert first.documents is None and first.labels.tolist() == [[98, 99, EOS, IGNORE]]


def test_without_an_eos_documents_meet_unmarked(windows):
    form, samples = windows(["ab", "ba"], 4, tokenizer=character(["ab"]))
    batch = collated(form, samples)
    assert batch.tokens.tolist() == [[0, 1, 1, 0]]  # the last input has no label: it is padding
    assert batch.labels.tolist() == [[1, IGNORE, 0, IGNORE]]


def test_packing_off_is_a_document_a_row_cut_to_length(windows):
    form, samples = windows(["abc", "d" * 200, "ef"], 70, packing=False)
    batch = collated(form, samples, [0, 2])
    assert batch.tokens.shape == (2, 64) and batch.documents is None
    assert batch.tokens[0, :4].tolist() == [97, 98, 99, EOS] and batch.labels[0, :4].tolist() == [98, 99, EOS, IGNORE]
    assert batch.counts() == {"tokens": 5, "sequences": 2}
    longest = collated(form, samples, [1])
    assert longest.tokens.shape == (1, 70) and longest.counts()["tokens"] == 70  # rounded up, but never beyond T
    assert [samples.length(index) for index in range(3)] == [3, 70, 2]
    receipt = samples.receipt
    assert (receipt.truncated, receipt.places["truncated"], receipt.tokens) == (1, ["train, document 2"], 4 + 71 + 3)


def test_packing_off_tells_of_documents_with_nothing_to_predict(windows):
    _, samples = windows(["ab", "a", "ba"], 8, packing=False, tokenizer=character(["ab"]))
    assert len(samples) == 2
    assert samples.receipt.dropped == {"a single token, nothing to predict": 1}


def test_empty_counts_nothing(windows):
    form, _ = windows(TEXTS, 8)
    batch = form.empty()
    assert batch.counts() == {"tokens": 0, "sequences": 0}
    assert batch.tokens.shape == (1, 8) and (batch.labels == IGNORE).all()


def test_split_cuts_the_stream_of_tokens(windows):
    form, samples = windows(TEXTS, 5)
    total = samples.receipt.tokens
    kept, held_out = samples.split(0.3)
    cut = int(total * (1 - 0.3))
    assert (kept.receipt.tokens, held_out.receipt.tokens) == (cut, total - cut)
    stream = [token for text in TEXTS for token in [*text.encode(), EOS]]
    inputs = np.concatenate([held_out[index].tokens[: held_out.length(index)] for index in range(len(held_out))])
    assert inputs.tolist() == stream[cut:-1]
    inputs = np.concatenate([kept[index].tokens[: kept.length(index)] for index in range(len(kept))])
    assert inputs.tolist() == stream[: cut - 1]
    assert len({samples.fingerprint, kept.fingerprint, held_out.fingerprint}) == 3
    assert held_out.label == "train (held out)"
    for part in (kept, held_out):
        assert collated(form, part).counts()["tokens"] == part.receipt.trained_tokens


def test_split_without_packing_holds_out_the_last_documents(windows):
    _, samples = windows(["abc", "de", "fgh", "ij"], 8, packing=False)
    kept, held_out = samples.split(0.25)
    assert (len(kept), len(held_out)) == (3, 1)
    assert held_out[0].tokens.tolist() == [*b"ij", EOS]


def test_nanogpts_split_of_real_text(windows, tinyshakespeare):
    text = tinyshakespeare.read_text()
    form, samples = windows([text], 64, tokenizer=character([text]))
    kept, held_out = samples.split(0.1)
    assert (kept.receipt.tokens, held_out.receipt.tokens) == (1_003_854, 111_540)  # nanoGPT's readme
    assert form.options.tokenizer.decode(held_out[0].tokens) == text[1_003_854 : 1_003_854 + 65]
    assert collated(form, held_out).counts()["tokens"] == 111_539


def test_the_receipt_adds_up(windows):
    _, samples = windows(["", "ab", "", "cde"], 4)
    receipt = samples.receipt
    assert (receipt.rows, receipt.used, receipt.dropped, receipt.tokens) == (4, 2, {"empty": 2}, 7)
    assert receipt.places == {"empty": ["rows:1", "rows:3"]}
    assert receipt.trained_tokens == 5  # b eos, d e eos
    assert receipt.first[0] == "ab<|endoftext|>cd"


def test_special_tokens_spelt_in_a_document_stay_text(windows):
    _, samples = windows(["a<|endoftext|>b"], 100)
    assert samples[0].tokens.tolist() == [*b"a<|endoftext|>b", EOS]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"messages": []}], r"rows:1: no string under 'text' \(found messages\)"),
        ([{"text": "a"}, {"text": 3}], r"rows:2: no string under 'text' \(found a int there\)"),
        ([{"text": ""}], "its 1 rows hold no text"),
        ([], "its 0 rows hold no text"),
    ],
)
def test_rows_that_are_no_text_are_named(windows, rows_source, rows, message):
    form, _ = windows(["a"], 4)
    with pytest.raises(UserError, match=message):
        form.prepare(rows_source(rows), "train")


def test_an_unknown_character_is_named_with_its_row(windows):
    with pytest.raises(UserError, match=r"rows:2: .*'c' \(U\+0063\)"):
        windows(["ab", "abc", "ba"], 4, tokenizer=character(["ab"]))


def test_how_documents_are_cut_for_encoding_changes_nothing(windows, rows_source, tmp_path, monkeypatch):
    texts = ["line one\nline two\n" * 40, "short", "a\nb\nc\n" * 30]
    form, whole = windows(texts, 10_000)
    monkeypatch.setattr(documents, "PIECE", 20)
    monkeypatch.setattr(documents, "BATCH", 50)
    again = Windows(replace(form.options, cache=tmp_path))
    assert again.prepare(rows_source([{"text": text} for text in texts]), "train").fingerprint == whole.fingerprint


def test_prepared_once(windows, cache):
    windows(TEXTS, 4)
    folders = list((cache / "tokens").iterdir())
    windows(TEXTS, 9, packing=False)  # the same tokens serve every width
    assert list((cache / "tokens").iterdir()) == folders
    windows(TEXTS, 4, tokenizer=byte(["<x>"]))
    assert len(list((cache / "tokens").iterdir())) == 2
