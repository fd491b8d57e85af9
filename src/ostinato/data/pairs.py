"""Preference pairs: two answers to one prompt, the better one first. Letters: P pairs, N trained tokens.

A sample is a pair; both answers are documents of one row, each with its own copy of the prompt, so that a micro-batch
never cuts a pair. `data.sequence_length` bounds each of them: rows are twice as wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ostinato.core.types import Batch
from ostinato.data.batches import TokenBatch
from ostinato.data.conversations import Conversations
from ostinato.data.encoding import TrainedTokens
from ostinato.data.packing import one_a_row, pack
from ostinato.data.preference_rows import PAIRS, check_options
from ostinato.data.row_preparation import prepare_rows
from ostinato.data.row_samples import RowSamples
from ostinato.data.source import Source
from ostinato.data.token_rows import empty_row, fitting_width, last_columns, lay_out

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Pair:
    """Two documents with the same prompt; `margin` is by how much the first is better."""

    chosen: TrainedTokens
    rejected: TrainedTokens
    margin: float
    reference: np.ndarray | None = None  # (n,) log-probs of the trained tokens of both, where they were precomputed

    @property
    def trained_tokens(self) -> int:
        """n, of both."""
        return int(np.count_nonzero(self.chosen.trained) + np.count_nonzero(self.rejected.trained))


@dataclass(eq=False)
class PreferenceBatch(Batch):
    """Pair p is the sequences 2p (chosen) and 2p + 1 (rejected) of `tokens`. B, the rows, is at most P."""

    tokens: TokenBatch
    ends: Tensor  # (2P,) int64, flat index of each document's last token
    margins: Tensor  # (P,) fp32
    chosen_tokens: np.ndarray  # (P,) trained tokens of each chosen answer, on the host
    reference: Tensor | None = None  # (N,) log-probs of the frozen reference

    def counts(self) -> dict[str, int]:
        """pairs; tokens and sequences of both answers; chosen_tokens."""
        return {"pairs": len(self.chosen_tokens), "chosen_tokens": int(self.chosen_tokens.sum())} | self.tokens.counts()

    def split(self, size: int) -> list[PreferenceBatch]:
        """Consecutive batches of `size` rows, each with whole pairs."""
        parts, pair, token, row = [], 0, 0, 0
        for tokens in self.tokens.split(size):
            pairs, trained = tokens.sequences // 2, tokens.counts()["tokens"]
            part = replace(
                self,
                tokens=tokens,
                ends=self.ends[2 * pair : 2 * (pair + pairs)] - row * tokens.tokens.shape[1],
                margins=self.margins[pair : pair + pairs],
                chosen_tokens=self.chosen_tokens[pair : pair + pairs],
                reference=None if self.reference is None else self.reference[token : token + trained],
            )
            parts.append(part)
            pair, token, row = pair + pairs, token + trained, row + len(tokens)
        return parts


class PairSamples(RowSamples):
    """Prepared pairs, two documents each."""

    each = 2

    def __getitem__(self, index: int) -> Pair:
        number = self._chosen[index]
        margin = self.shards.notes["numbers"][number]
        return Pair(self.document(2 * number), self.document(2 * number + 1), margin)


class Pairs(Conversations):
    """Rows with `prompt`, `chosen`, `rejected`, or with whole conversations as chosen and rejected; maybe `margin`."""

    def prepare(self, source: Source, label: str) -> PairSamples:
        """Encode once; the receipt tells what was cut and dropped, and which answers are equal."""
        check_options(self.options)
        shards = prepare_rows(source, self.options, PAIRS)
        return PairSamples(label, shards, source, self.describe, range(shards.documents // 2))

    def layout(self, lengths: list[int]) -> list[list[int]]:
        """Whole pairs, packed or one a row."""
        return pack(lengths, 2 * self._limit) if self.options.packing else one_a_row(lengths)

    def collate(self, rows: Sequence[Sequence[Pair]]) -> PreferenceBatch:  # type: ignore[override]
        """(R, T) tokens: T is twice the sequence length where rows are packed, else as wide as is needed."""
        from torch import from_numpy, tensor

        documents = [[document for pair in row for document in (pair.chosen, pair.rejected)] for row in rows]
        width = 2 * self._limit if self.options.packing else fitting_width(documents, 2 * self._limit)
        tokens = lay_out(documents, width, self._pad, packed=True)
        pairs = [pair for row in rows for pair in row]
        margins = tensor([pair.margin for pair in pairs])
        chosen = np.array([np.count_nonzero(pair.chosen.trained) for pair in pairs], dtype=np.int64)
        known = [pair.reference for pair in pairs if pair.reference is not None]
        reference = from_numpy(np.concatenate(known)) if known else None
        return PreferenceBatch(tokens, from_numpy(last_columns(documents, width)), margins, chosen, reference)

    def empty(self) -> PreferenceBatch:  # type: ignore[override]
        """One narrow row of padding, no pair."""
        from torch import int64, zeros

        none = np.zeros(0, dtype=np.int64)
        tokens = empty_row(self._pad, self._limit, packed=True)
        return PreferenceBatch(tokens, zeros(0, dtype=int64), zeros(0), none)

    def describe(self, item: Pair) -> str:  # type: ignore[override]
        """Both answers with their prompt, what is trained on in ⟦ ⟧."""
        margin = f" (margin {item.margin:g})" if item.margin else ""
        chosen, rejected = super().describe(item.chosen), super().describe(item.rejected)
        return f"chosen{margin}: {chosen}\nrejected: {rejected}"
