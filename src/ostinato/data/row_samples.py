"""Prepared rows as samples: each row, of all or of a part of them, is one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ostinato.core.manifest import hash_of
from ostinato.data.encoding import TrainedTokens
from ostinato.data.receipt import PLACES_SHOWN, Receipt
from ostinato.data.row_preparation import Outcome
from ostinato.data.source import Source, origin_of
from ostinato.data.tokens import TokenShards

SHOWN = 2


class RowSamples:
    """The samples `chosen` of the shards. Reading is safe from several threads."""

    each: ClassVar[int] = 1
    """Documents of the shards that one sample is."""

    def __init__(
        self,
        label: str,
        shards: TokenShards,
        source: Source,
        describe: Callable[[Any], str],
        chosen: range,
    ) -> None:
        self.label = label
        self.fingerprint = hash_of(["rows", shards.fingerprint, chosen.start, chosen.stop])
        self.shards, self._source, self._describe, self._chosen = shards, source, describe, chosen
        self._outcome = Outcome(**shards.notes)
        self._lengths = shards.lengths.reshape(-1, self.each).sum(1)[chosen.start : chosen.stop]
        self.receipt = self._tell()

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> Any:
        return self.document(self._chosen[index])

    def document(self, number: int) -> TrainedTokens:
        """A document of the shards."""
        start, stop = self.shards.document(number)
        return TrainedTokens(self.shards.read(start, stop).astype(np.int64), self.shards.read_mask(start, stop) == 1)

    def length(self, index: int) -> int:
        """Tokens of a sample, from the index alone."""
        return int(self._lengths[index])

    def place(self, index: int) -> str:
        """Where its row comes from."""
        return self._source.place(self._row(self._chosen[index]))

    def split(self, fraction: float) -> tuple[RowSamples, RowSamples]:
        """(train, held out): whole rows; the first int(n * (1 - fraction)) of the n, and the rest."""
        cut = int(len(self) * (1 - fraction))
        return self._part(self.label, self._chosen[:cut]), self._part(f"{self.label} (held out)", self._chosen[cut:])

    def _tell(self) -> Receipt:
        """What became of the rows between the first and the last of this part; the ends belong to the outer parts."""
        first = self._row(self._chosen.start) if self._chosen.start else 0
        whole = self._chosen.stop * self.each == self.shards.documents
        last = self._outcome.rows if whole else self._row(self._chosen.stop)
        tokens, trained = self._tokens()
        receipt = Receipt(self.label, rows=last - first, used=len(self), tokens=tokens, trained_tokens=trained)
        receipt.kind, receipt.origin = self._outcome.kind, origin_of(self._source)
        receipt.first = [self._describe(self[index]) for index in range(min(SHOWN, len(self)))]
        own = {what: _between(rows, first, last) for what, rows in self._outcome.dropped.items()}
        receipt.dropped = {what: len(rows) for what, rows in own.items() if rows}
        remarks = {what: _between(rows, first, last) for what, rows in self._outcome.remarks.items()}
        receipt.remarks = {what: len(rows) for what, rows in remarks.items() if rows}
        own |= remarks | {"truncated": (cut := _between(self._outcome.cut, first, last))}
        receipt.truncated = len(cut)
        receipt.places = {
            what: list(map(self._source.place, rows[:PLACES_SHOWN])) for what, rows in own.items() if rows
        }
        return receipt

    def _part(self, label: str, chosen: range) -> RowSamples:
        return type(self)(label, self.shards, self._source, self._describe, chosen)

    def _tokens(self) -> tuple[int, int]:
        """Tokens, and those that are trained on."""
        if not len(self):
            return 0, 0
        start = self.shards.document(self._chosen[0] * self.each)[0]
        stop = self.shards.document((self._chosen[-1] + 1) * self.each - 1)[1]
        return stop - start, int(np.count_nonzero(self.shards.read_mask(start, stop)))

    def _row(self, sample: int) -> int:
        """The source's row that a sample of the shards was."""
        return sample + int(np.searchsorted(self._dropped_before, sample, side="right"))

    @cached_property
    def _dropped_before(self) -> np.ndarray:
        """For each dropped row, ascending, how many rows before it were used."""
        dropped = np.array(sorted(row for rows in self._outcome.dropped.values() for row in rows), dtype=np.int64)
        return dropped - np.arange(len(dropped))


def _between(rows: list[int], first: int, last: int) -> list[int]:
    """Those of the ascending `rows` in [first, last)."""
    return rows[bisect_left(rows, first) : bisect_left(rows, last)]
