"""Batches of tokens. Letters: B rows, T columns, N trained labels of the whole batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ostinato.core.types import Batch

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = -100
"""A label nobody is trained on (`ignore_index` of torch's cross entropy)."""
PADDING = -1
"""The document number of a column that belongs to no document."""
UNSET: Any = None  # worked out when the batch is made


@dataclass(eq=False)
class TokenBatch(Batch):
    """Rows of tokens with labels already shifted: `labels[b, t]` is the token that should follow `tokens[b, t]`.

    `documents` None means one document a row, from column 0, padded on the right only. Everything that is left out is
    worked out from `labels` on the CPU, so that later nothing has to ask the device how much there is.
    """

    tokens: Tensor  # (B, T) int64
    labels: Tensor  # (B, T) int64, IGNORE = not trained on
    positions: Tensor = UNSET  # (B, T) int64, restart in each document
    documents: Tensor | None = None  # (B, T) int64, which document of its row; PADDING outside
    trained: Tensor = UNSET  # (N,) int64, flat indices of the trained labels, ascending
    row_tokens: np.ndarray = UNSET  # (B,) trained labels of each row, on the host
    row_sequences: np.ndarray = UNSET  # (B,) documents with a trained label of each row, on the host
    sequence: Tensor = UNSET  # (N,) int64, which sequence each trained label is of: 0 ... S - 1, by row

    def __post_init__(self) -> None:
        import torch

        if self.positions is None:
            self.positions = torch.arange(self.tokens.shape[1], device=self.tokens.device).repeat(len(self.tokens), 1)
        if self.trained is None or self.sequence is None or self.row_tokens is None or self.row_sequences is None:
            documents = None if self.documents is None else self.documents.cpu().numpy()
            trained, sequence, self.row_tokens, self.row_sequences = count_trained(self.labels.cpu().numpy(), documents)
            self.trained = torch.from_numpy(trained).to(self.tokens.device)
            self.sequence = torch.from_numpy(sequence).to(self.tokens.device)

    @staticmethod
    def of(
        tokens: np.ndarray, labels: np.ndarray, positions: np.ndarray, documents: np.ndarray | None = None
    ) -> TokenBatch:
        """From (B, T) int64 arrays, without copying those that are contiguous."""
        from torch import from_numpy

        trained, sequence, row_tokens, row_sequences = count_trained(labels, documents)
        return TokenBatch(
            from_numpy(np.ascontiguousarray(tokens)),
            from_numpy(np.ascontiguousarray(labels)),
            from_numpy(np.ascontiguousarray(positions)),
            None if documents is None else from_numpy(np.ascontiguousarray(documents)),
            from_numpy(trained),
            row_tokens,
            row_sequences,
            from_numpy(sequence),
        )

    @property
    def sequences(self) -> int:
        """S: documents with a trained label."""
        return int(self.row_sequences.sum())

    def sum_by_sequence(self, values: Tensor) -> Tensor:
        """(N,) numbers of the trained labels added up by sequence: (S,)."""
        return values.new_zeros(self.sequences).index_add(0, self.sequence, values)

    def counts(self) -> dict[str, int]:
        """tokens: trained labels; sequences: documents with at least one. Known on the host, whatever the device."""
        return {"tokens": int(self.row_tokens.sum()), "sequences": int(self.row_sequences.sum())}

    def split(self, size: int) -> list[TokenBatch]:
        """Consecutive batches of `size` rows, the last may be smaller; nothing waits for the device."""
        return [self._rows(start, min(start + size, len(self))) for start in range(0, len(self), size)]

    def _rows(self, start: int, stop: int) -> TokenBatch:
        first, last = int(self.row_tokens[:start].sum()), int(self.row_tokens[:stop].sum())
        return replace(
            self,
            tokens=self.tokens[start:stop],
            labels=self.labels[start:stop],
            positions=self.positions[start:stop],
            documents=None if self.documents is None else self.documents[start:stop],
            trained=self.trained[first:last] - start * self.tokens.shape[1],
            row_tokens=self.row_tokens[start:stop],
            row_sequences=self.row_sequences[start:stop],
            sequence=self.sequence[first:last] - int(self.row_sequences[:start].sum()),
        )


def count_trained(
    labels: np.ndarray, documents: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Flat indices (N,) of the trained labels and the number of each one's sequence (N,); per row (B,) the number of
    its trained labels, and of the documents they are in."""
    rows, columns = labels.shape
    trained = np.flatnonzero(labels != IGNORE)
    row_of = trained // columns
    # A document is contiguous in its row, so a new one begins wherever row or document differs from the label before.
    begins = np.ones(len(trained), dtype=bool)
    begins[1:] = row_of[1:] != row_of[:-1]
    if documents is not None:
        document_of = documents.reshape(-1)[trained]
        begins[1:] |= document_of[1:] != document_of[:-1]
    counts = np.bincount(row_of, minlength=rows), np.bincount(row_of[begins], minlength=rows)
    return trained, np.cumsum(begins) - 1, *counts
