"""Labelled responses: a prompt, a response, and whether it is desirable. Letters: S samples, N trained tokens.

With each sample of a step comes its prompt with the response of the next sample of that step (the last with that of
the first), which tells how far the policy has moved on responses that do not belong to their prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ostinato.core.types import Batch
from ostinato.data.batches import TokenBatch
from ostinato.data.conversations import Conversations
from ostinato.data.encoding import TrainedTokens
from ostinato.data.preference_rows import LABELLED, check_options, prompt_of
from ostinato.data.row_preparation import prepare_rows
from ostinato.data.row_samples import RowSamples
from ostinato.data.source import Source
from ostinato.data.token_rows import empty_row, fitting_width, lay_out

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Labelled:
    """A document and its label; `mismatched` is its prompt with the next sample's response."""

    document: TrainedTokens
    desirable: bool
    mismatched: TrainedTokens | None = None


@dataclass(eq=False)
class LabelledBatch(Batch):
    """Sample s is sequence s of `tokens` and of `mismatched`, which lie in rows alike. B, the rows, is at most S."""

    tokens: TokenBatch
    mismatched: TokenBatch
    desirable: Tensor  # (S,) bool
    reference: Tensor | None = None  # (N,) log-probs of the frozen reference
    baseline: Tensor | None = None  # a number, the same in the whole step

    def counts(self) -> dict[str, int]:
        """tokens and sequences, not those of `mismatched`, which is not trained on."""
        return self.tokens.counts()

    def split(self, size: int) -> list[LabelledBatch]:
        """Consecutive batches of `size` rows."""
        parts, sample, token = [], 0, 0
        for tokens, mismatched in zip(self.tokens.split(size), self.mismatched.split(size), strict=True):
            samples, trained = sample + tokens.sequences, token + tokens.counts()["tokens"]
            desirable = self.desirable[sample:samples]
            reference = None if self.reference is None else self.reference[token:trained]
            part = replace(self, tokens=tokens, mismatched=mismatched, desirable=desirable, reference=reference)
            parts.append(part)
            sample, token = samples, trained
        return parts


class LabelledSamples(RowSamples):
    """Prepared responses with their labels."""

    def __getitem__(self, index: int) -> Labelled:
        number = self._chosen[index]
        return Labelled(self.document(number), self.shards.notes["numbers"][number] == 1.0)


class LabelledResponses(Conversations):
    """Rows with `prompt`, `response` (or `completion`) and `label`, true where the response is desirable."""

    def prepare(self, source: Source, label: str) -> LabelledSamples:
        """Encode once; the receipt tells what was cut and dropped."""
        check_options(self.options)
        shards = prepare_rows(source, self.options, LABELLED)
        return LabelledSamples(label, shards, source, self.describe, range(shards.documents))

    def item_at(self, position: int, count: int, read: Callable[[int], Labelled]) -> Labelled:
        """The sample at a position, and its prompt with the response of the position behind it."""
        own, following = read(position), read((position + 1) % count)
        return replace(own, mismatched=mismatch(own.document, following.document, self._limit))

    def collate(self, rows: Sequence[Sequence[Labelled]]) -> LabelledBatch:  # type: ignore[override]
        """As conversations; the mismatched ones, of other lengths, in rows as wide as they need."""
        from torch import tensor

        tokens = super().collate([[item.document for item in row] for row in rows])
        others = [[item.mismatched for item in row if item.mismatched is not None] for row in rows]
        mismatched = lay_out(others, fitting_width(others), self._pad, packed=self.options.packing)
        return LabelledBatch(tokens, mismatched, tensor([item.desirable for row in rows for item in row]))

    def empty(self) -> LabelledBatch:  # type: ignore[override]
        """One narrow row of padding, no sample."""
        from torch import bool, zeros

        tokens, mismatched = (empty_row(self._pad, self._limit, packed=self.options.packing) for _ in range(2))
        return LabelledBatch(tokens, mismatched, zeros(0, dtype=bool))

    def describe(self, item: Labelled) -> str:  # type: ignore[override]
        """The label, and the text with what is trained on in ⟦ ⟧."""
        return f"{'desirable' if item.desirable else 'undesirable'}: {super().describe(item.document)}"


def mismatch(own: TrainedTokens, following: TrainedTokens, limit: int) -> TrainedTokens:
    """The prompt of one document with the response of another, cut on the right."""
    prompt, start = prompt_of(own), len(prompt_of(following))
    ids = np.concatenate([prompt, following.ids[start:]])
    trained = np.concatenate([np.zeros(len(prompt), dtype=bool), following.trained[start:]])
    return TrainedTokens(ids[:limit], trained[:limit])
