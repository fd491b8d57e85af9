"""Fine-tuning rows for a student: each knows its place in the step, so that a response of its own may take it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ostinato.core.types import Batch
from ostinato.data.batches import TokenBatch
from ostinato.data.conversations import Conversations
from ostinato.data.encoding import TrainedTokens

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PlacedTokens(TrainedTokens):
    """A sample and its position among those of the step."""

    position: int = 0

    @property
    def prompt(self) -> np.ndarray:
        """The ids before the last answer, its last run of trained tokens."""
        begins = np.flatnonzero(self.trained[1:] & ~self.trained[:-1]) + 1
        return self.ids[: begins[-1]]


@dataclass(eq=False)
class DistillationBatch(Batch):
    """Rows of data, responses that the student sampled, or both. N trained tokens, M of them sampled."""

    tokens: TokenBatch
    rows: list[PlacedTokens] = field(default_factory=list)  # what the loader laid out
    sampled: Tensor | None = None  # (M,) int64, which of the N tokens were sampled; None: none
    behaviour: Tensor | None = None  # (M,) log-probs of the sampler
    teacher: Tensor | None = None  # (M,) log-probs of the teacher
    old: Tensor | None = None  # (M,) log-probs when the step's updates began; None: one update, they are the live ones

    def counts(self) -> dict[str, int]:
        """tokens and sequences, and how many of the tokens were sampled."""
        return {**self.tokens.counts(), "sampled_tokens": 0 if self.sampled is None else len(self.sampled)}

    def __len__(self) -> int:
        return len(self.tokens)


class DistillationRows(Conversations):
    """Rows of any fine-tuning kind; the prompt of a response is what stands before a row's last answer."""

    def item_at(self, position: int, count: int, read: Callable[[int], TrainedTokens]) -> PlacedTokens:
        """The sample with its position."""
        item = read(position)
        return PlacedTokens(item.ids, item.trained, position)

    def collate(self, rows: Sequence[Sequence[PlacedTokens]]) -> DistillationBatch:  # type: ignore[override]
        """(R, T) arrays, as for fine-tuning."""
        return DistillationBatch(super().collate(rows), [item for row in rows for item in row])

    def empty(self) -> DistillationBatch:  # type: ignore[override]
        """One narrow row of padding."""
        return DistillationBatch(super().empty())
