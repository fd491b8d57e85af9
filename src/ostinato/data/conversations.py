"""Fine-tuning data: conversations, prompts with responses, texts; a sample is a row, a step's samples are packed.

Masks as in post_training.md 3, packing as in training.md 1.3. Letters: R rows, T columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby

from ostinato.data.batches import TokenBatch
from ostinato.data.encoding import RowEncoder, TrainedTokens
from ostinato.data.formats import DataOptions, SampleFormat
from ostinato.data.packing import one_a_row, pack
from ostinato.data.row_preparation import prepare_rows
from ostinato.data.row_samples import RowSamples
from ostinato.data.rows import Message
from ostinato.data.source import Source
from ostinato.data.stream import Stream
from ostinato.data.streamed import StreamedRows
from ostinato.data.token_rows import empty_row, fitting_width, lay_out


class Conversations(SampleFormat):
    """Rows of any fine-tuning kind, told apart by their keys; what is trained on is `data.train_on`."""

    def __init__(self, options: DataOptions) -> None:
        super().__init__(options)
        tokenizer = options.tokenizer
        self._pad = next((index for index in (tokenizer.pad_id, tokenizer.eos_id) if index is not None), 0)

    def prepare(self, source: Source, label: str) -> RowSamples | StreamedRows:
        """Encode once, a stream as it is read; the receipt tells what was cut and dropped."""
        if isinstance(source, Stream):
            return StreamedRows(label, source, self.options, self.describe)
        shards = prepare_rows(source, self.options)
        return RowSamples(label, shards, source, self.describe, range(shards.documents))

    def layout(self, lengths: list[int]) -> list[list[int]]:
        """Packed, or one sample a row."""
        return pack(lengths, self.options.sequence_length) if self.options.packing else one_a_row(lengths)

    def collate(self, rows: Sequence[Sequence[TrainedTokens]]) -> TokenBatch:
        """(R, T) arrays: T is the sequence length where rows are packed, else that of the longest, rounded up."""
        width = self._limit if self.options.packing else fitting_width(rows, self._limit)
        return lay_out(rows, width, self._pad, packed=self.options.packing)

    def empty(self) -> TokenBatch:
        """One narrow row of padding."""
        return empty_row(self._pad, self._limit, packed=self.options.packing)

    def describe(self, item: TrainedTokens) -> str:
        """The text, special tokens too, with ⟦...⟧ around what is trained on."""
        pieces, before, decode = [], "", self.options.tokenizer.decode
        for trained, run in groupby(range(len(item.ids)), key=lambda at: bool(item.trained[at])):
            places = list(run)
            whole = decode(item.ids[: places[-1] + 1].tolist())  # by itself a run may lose the space in front of it
            text = whole[len(before) :] if whole.startswith(before) else decode(item.ids[places].tolist())
            pieces.append(f"⟦{text}⟧" if trained else text)
            before = whole
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
