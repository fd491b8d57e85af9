"""Pre-training samples: windows of T tokens over all documents end to end, or (packing off) one document a row.

Sample k is the tokens [kT, kT+T], one more than T for the shifted labels; the last may be shorter and is filled up, so
that every token but the first is a label exactly once per epoch. Letters: B rows, T columns.
"""

from __future__ import annotations

import numpy as np

from ostinato.core.errors import UserError
from ostinato.data.batches import IGNORE, PADDING, TokenBatch
from ostinato.data.documents import prepare_documents
from ostinato.data.formats import SampleFormat, Samples
from ostinato.data.packing import padded_width
from ostinato.data.source import Source
from ostinato.data.stream import Stream
from ostinato.data.streamed import StreamedWindows
from ostinato.data.token_samples import DocumentSamples, Window, WindowSamples

SHOWN_CHARACTERS = 400


class Windows(SampleFormat):
    """Every token of every document is trained on, but for a document's first, which nothing precedes."""

    def prepare(self, source: Source, label: str) -> Samples:
        if isinstance(source, Stream):
            if not self.options.packing:
                raise UserError("data.packing: false reads documents whole, which a stream does not. Leave it true.")
            return StreamedWindows(label, source, self.options, self.describe)
        shards, receipt = prepare_documents(source, self.options.tokenizer, self.options.cache, label)
        width = self.options.sequence_length
        if self.options.packing:
            return WindowSamples(shards, receipt, 0, shards.total, width, self.describe)
        for lone in np.flatnonzero(shards.lengths == 1):
            receipt.drop("a single token, nothing to predict", f"{label}, document {lone + 1}")
        usable = np.flatnonzero(shards.lengths > 1)
        return DocumentSamples(shards, receipt, usable, width, self.describe)

    def collate(self, rows: list[list[Window]]) -> TokenBatch:
        windows = [window for row in rows for window in row]
        sizes = np.array([len(window.tokens) - 1 for window in windows])
        width = self._width(int(sizes.max()))
        tokens = np.full((len(windows), width + 1), self._padding, dtype=np.int64)
        for row, window in zip(tokens, windows, strict=True):
            row[: len(window.tokens)] = window.tokens
        labels = tokens[:, 1:].copy()
        columns = np.arange(width)
        outside = columns >= sizes[:, None] if (sizes < width).any() else None
        positions, documents = np.tile(columns, (len(windows), 1)), None
        if any(len(window.starts) for window in windows):
            positions, documents = self._number(windows, labels, positions)
        inputs = tokens[:, :-1]
        if outside is not None:
            inputs[outside], labels[outside] = self._padding, IGNORE
            if documents is not None:
                documents[outside] = PADDING
        return TokenBatch.of(inputs, labels, positions, documents)

    def empty(self) -> TokenBatch:
        width = self._width(1)
        tokens = np.full((1, width), self._padding, dtype=np.int64)
        return TokenBatch.of(tokens, np.full_like(tokens, IGNORE), np.arange(width)[None])

    def describe(self, item: Window) -> str:
        text = self.options.tokenizer.decode(item.tokens)
        return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " ..."

    def _number(
        self, windows: list[Window], labels: np.ndarray, positions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Positions and document numbers; takes the labels away that are another document's first token."""
        rows = np.repeat(np.arange(len(windows)), [len(window.starts) for window in windows])
        starts = np.concatenate([window.starts for window in windows])
        labels[rows, starts - 1] = IGNORE
        inside = starts < labels.shape[1]
        begins = np.zeros(labels.shape, dtype=np.int64)
        begins[rows[inside], starts[inside]] = 1
        if not begins.any():  # only the last label was of another document
            return positions, None
        first = np.maximum.accumulate(np.where(begins == 1, positions, 0), axis=1)
        return positions - first, np.cumsum(begins, axis=1)

    def _width(self, longest: int) -> int:
        """Windows are all T wide; documents as wide as the longest, rounded up."""
        most = self.options.sequence_length
        return most if self.options.packing else padded_width(longest, most)

    @property
    def _padding(self) -> int:
        return self.options.tokenizer.pad_id or 0
