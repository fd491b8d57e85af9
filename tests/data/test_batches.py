"""Batches of tokens: what they count, by hand."""

import numpy as np
import pytest
import torch

from ostinato.data.batches import IGNORE, PADDING, TokenBatch

X = IGNORE
LABELS = np.array([[7, 8, X, 9], [X, X, X, X], [X, 5, X, X]])
DOCUMENTS = np.array([[0, 0, 1, 1], [0, 1, 2, PADDING], [0, 0, 1, PADDING]])
TOKENS = np.arange(12).reshape(3, 4)
POSITIONS = np.array([[0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]])


def batch(documents=DOCUMENTS) -> TokenBatch:
    return TokenBatch.of(TOKENS, LABELS, POSITIONS, documents)


def test_counts_are_trained_labels_and_the_documents_that_hold_one():
    assert batch().counts() == {"tokens": 4, "sequences": 3}  # row 0: documents 0 and 1; row 2: document 0
    assert batch(None).counts() == {"tokens": 4, "sequences": 2}  # a row is a document
    assert batch().trained.tolist() == [0, 1, 3, 9]


def test_the_same_is_worked_out_from_tensors():
    built = TokenBatch(torch.from_numpy(TOKENS), torch.from_numpy(LABELS), documents=torch.from_numpy(DOCUMENTS))
    assert built.counts() == batch().counts()
    assert built.trained.tolist() == [0, 1, 3, 9]
    assert built.positions.tolist() == [[0, 1, 2, 3]] * 3


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_split_keeps_rows_and_counts(size):
    parts = batch().split(size)
    for number, part in enumerate(parts):
        rows = slice(number * size, (number + 1) * size)
        fresh = TokenBatch.of(TOKENS[rows], LABELS[rows], POSITIONS[rows], DOCUMENTS[rows])
        for name in ("tokens", "labels", "positions", "documents", "trained", "sequence"):
            assert torch.equal(getattr(part, name), getattr(fresh, name)), name
        assert part.counts() == fresh.counts()
        assert part.labels.flatten()[part.trained].tolist() == [x for x in LABELS[rows].flatten() if x != IGNORE]
    assert sum(len(part) for part in parts) == 3


def test_to_keeps_counts_without_asking_the_device():
    moved = batch().to("meta")  # a device that has no values to ask for
    assert moved.tokens.device.type == "meta"
    assert moved.counts() == {"tokens": 4, "sequences": 3}
    assert [part.counts()["tokens"] for part in moved.split(1)] == [3, 0, 1]


def test_each_trained_label_knows_its_sequence():
    assert batch().sequence.tolist() == [0, 0, 1, 2]  # row 0 holds two documents, row 1 nothing that is trained
    assert batch(None).sequence.tolist() == [0, 0, 0, 1]
    assert batch().sequences == 3


def test_sums_by_sequence():
    assert batch().sum_by_sequence(torch.tensor([1.0, 2.0, 4.0, 8.0])).tolist() == [3.0, 4.0, 8.0]
    empty = TokenBatch.of(TOKENS[1:2], LABELS[1:2], POSITIONS[1:2])
    assert empty.sum_by_sequence(torch.zeros(0)).tolist() == []
