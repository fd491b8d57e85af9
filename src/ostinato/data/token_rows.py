"""Documents laid into the rows of a batch, labels shifted. Letters: R rows, T columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ostinato.data.batches import IGNORE, PADDING, TokenBatch
from ostinato.data.encoding import TrainedTokens
from ostinato.data.packing import WIDTH_MULTIPLE, padded_width, placements


def fitting_width(rows: Sequence[Sequence[TrainedTokens]], limit: int | None = None) -> int:
    """That of the longest row, rounded up so that few widths occur, at most `limit`."""
    longest = max(sum(len(item.ids) for item in row) for row in rows)
    return padded_width(longest, limit or longest + WIDTH_MULTIPLE)


def lay_out(rows: Sequence[Sequence[TrainedTokens]], width: int, pad: int, *, packed: bool) -> TokenBatch:
    """(R, width) arrays; the documents of a row follow each other. Not `packed`: there is one a row, from column 0."""
    lengths = [[len(item.ids) for item in row] for row in rows]
    where, positions_of, documents_of = placements(lengths, width)
    ids = np.concatenate([item.ids for row in rows for item in row])
    trained = np.concatenate([item.trained for row in rows for item in row])

    tokens = np.full(len(rows) * width, pad, dtype=np.int64)
    labels = np.full(len(rows) * width, IGNORE, dtype=np.int64)
    positions = np.zeros(len(rows) * width, dtype=np.int64)
    documents = np.full(len(rows) * width, PADDING, dtype=np.int64)
    tokens[where], positions[where], documents[where] = ids, positions_of, documents_of
    # A trained token is the label of the column before it; a document's first token (position 0) is nobody's.
    labelled = np.flatnonzero(trained & (positions_of > 0))
    labels[where[labelled] - 1] = ids[labelled]
    shape = (len(rows), width)
    numbered = documents.reshape(shape) if packed else None
    return TokenBatch.of(tokens.reshape(shape), labels.reshape(shape), positions.reshape(shape), numbered)


def empty_row(pad: int, limit: int, *, packed: bool) -> TokenBatch:
    """One narrow row of padding."""
    shape = (1, min(limit, WIDTH_MULTIPLE))
    documents = np.full(shape, PADDING, dtype=np.int64) if packed else None
    return TokenBatch.of(np.full(shape, pad), np.full(shape, IGNORE), np.zeros(shape, np.int64), documents)


def last_columns(rows: Sequence[Sequence[TrainedTokens]], width: int) -> np.ndarray:
    """Flat index in (R, width) of each document's last token, in the order of the rows."""
    ends = [
        number * width + end - 1
        for number, row in enumerate(rows)
        for end in np.cumsum([len(item.ids) for item in row]).tolist()
    ]
    return np.array(ends, dtype=np.int64)
