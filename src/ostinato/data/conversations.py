"""Fine-tuning data: conversations, prompts with responses, texts; a sample is a row, a step's samples are packed.

Masks as in post_training.md 3, packing as in training.md 1.3. Letters: R rows, T columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby

import numpy as np

from ostinato.data.batches import IGNORE, PADDING, TokenBatch
from ostinato.data.encoding import RowEncoder, TrainedTokens
from ostinato.data.formats import DataOptions, SampleFormat
from ostinato.data.packing import WIDTH_MULTIPLE, one_a_row, pack, padded_width, placements
from ostinato.data.row_preparation import prepare_rows
from ostinato.data.row_samples import RowSamples
from ostinato.data.rows import Message
from ostinato.data.source import Source


class Conversations(SampleFormat):
    """Rows of any fine-tuning kind, told apart by their keys; what is trained on is `data.train_on`."""

    def __init__(self, options: DataOptions) -> None:
        super().__init__(options)
        tokenizer = options.tokenizer
        self._pad = next((index for index in (tokenizer.pad_id, tokenizer.eos_id) if index is not None), 0)

    def prepare(self, source: Source, label: str) -> RowSamples:
        """Encode once; the receipt tells what was cut and dropped."""
        shards = prepare_rows(source, self.options)
        return RowSamples(label, shards, source, self.describe, range(shards.documents))

    def layout(self, lengths: list[int]) -> list[list[int]]:
        """Packed, or one sample a row."""
        return pack(lengths, self.options.sequence_length) if self.options.packing else one_a_row(lengths)

    def collate(self, rows: Sequence[Sequence[TrainedTokens]]) -> TokenBatch:
        """(R, T) arrays: T is the sequence length where rows are packed, else that of the longest, rounded up."""
        lengths = [[len(item.ids) for item in row] for row in rows]
        longest = max(map(sum, lengths))
        width = self.options.sequence_length if self.options.packing else padded_width(longest, self._limit)
        where, positions_of, documents_of = placements(lengths, width)
        ids = np.concatenate([item.ids for row in rows for item in row])
        trained = np.concatenate([item.trained for row in rows for item in row])

        tokens = np.full(len(rows) * width, self._pad, dtype=np.int64)
        labels = np.full(len(rows) * width, IGNORE, dtype=np.int64)
        positions = np.zeros(len(rows) * width, dtype=np.int64)
        documents = np.full(len(rows) * width, PADDING, dtype=np.int64)
        tokens[where], positions[where], documents[where] = ids, positions_of, documents_of
        # A trained token is the label of the column before it; a document's first token (position 0) is nobody's.
        labelled = np.flatnonzero(trained & (positions_of > 0))
        labels[where[labelled] - 1] = ids[labelled]
        shape = (len(rows), width)
        packed = documents.reshape(shape) if self.options.packing else None
        return TokenBatch.of(tokens.reshape(shape), labels.reshape(shape), positions.reshape(shape), packed)

    def empty(self) -> TokenBatch:
        """One narrow row of padding."""
        shape = (1, self._limit if self._limit < WIDTH_MULTIPLE else WIDTH_MULTIPLE)
        documents = np.full(shape, PADDING, dtype=np.int64) if self.options.packing else None
        return TokenBatch.of(np.full(shape, self._pad), np.full(shape, IGNORE), np.zeros(shape, np.int64), documents)

    def describe(self, item: TrainedTokens) -> str:
        """The text, special tokens too, with ⟦...⟧ around what is trained on."""
        pieces = []
        for trained, run in groupby(range(len(item.ids)), key=lambda at: bool(item.trained[at])):
            text = self.options.tokenizer.decode(item.ids[list(run)].tolist())
            pieces.append(f"⟦{text}⟧" if trained else text)
        return "".join(pieces)

    def encode_prompt(self, prompt: str | Sequence[Message]) -> list[int]:
        """What a model is given to answer, as in training: through the chat template where there is one."""
        return self._encoder.prompt(prompt)

    @cached_property
    def _encoder(self) -> RowEncoder:
        return RowEncoder(self.options.tokenizer, self.options.train_on)

    @property
    def _limit(self) -> int:
        return self.options.sequence_length
