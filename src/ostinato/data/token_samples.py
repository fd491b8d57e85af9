"""Prepared tokens as samples: windows over a stream of documents, or one document each. Read by memory map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ostinato.core.manifest import hash_bytes, hash_of
from ostinato.data.receipt import PLACES_SHOWN, Receipt
from ostinato.data.tokens import TokenShards

SHOWN = 2
NONE = np.zeros(0, dtype=np.int64)


class Window(NamedTuple):
    """Tokens in a row and where in it documents start (offsets > 0, ascending)."""

    tokens: np.ndarray  # (inputs + 1,)
    starts: np.ndarray


Describe = Callable[[Window], str]


class WindowSamples:
    """Windows over the tokens [start, stop) of a source."""

    def __init__(
        self, shards: TokenShards, receipt: Receipt, start: int, stop: int, width: int, describe: Describe
    ) -> None:
        self.label = receipt.label
        self.fingerprint = hash_of(["windows", shards.fingerprint, start, stop])
        self.shards, self._rows, self._describe = shards, receipt, describe
        self._start, self._stop, self._width = start, stop, width
        self._one_document = not len(shards.starts(start + 1, stop))
        self.receipt = self._tell()

    def __len__(self) -> int:
        return max(0, -(-(self._stop - self._start - 1) // self._width))

    def __getitem__(self, index: int) -> Window:
        start, stop = self._bounds(index)
        tokens = self.shards.read(start, stop)
        return Window(tokens, NONE if self._one_document else self.shards.starts(start + 1, stop) - start)

    def length(self, index: int) -> int:
        start, stop = self._bounds(index)
        return stop - start - 1

    def place(self, index: int) -> str:
        start, stop = self._bounds(index)
        return f"{self.label}, tokens {start:,} to {stop - 1:,}"

    def split(self, fraction: float) -> tuple[WindowSamples, WindowSamples]:
        """Cut the stream of tokens after int(n * (1 - fraction)) of its n."""
        cut = self._start + int((self._stop - self._start) * (1 - fraction))
        held_out = Receipt(f"{self.label} (held out)")
        return (
            WindowSamples(self.shards, self._rows, self._start, cut, self._width, self._describe),
            WindowSamples(self.shards, held_out, cut, self._stop, self._width, self._describe),
        )

    def _bounds(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.label} has {len(self)} windows, no number {index}")
        start = self._start + index * self._width
        return start, min(start + self._width + 1, self._stop)

    def _tell(self) -> Receipt:
        """Documents that lie (partly) in this range, with the rows that were dropped before."""
        starts = len(self.shards.starts(self._start + 1, self._stop))
        tokens = self._stop - self._start
        used = starts + 1 if tokens else 0
        shown = [self._describe(self[index]) for index in range(min(SHOWN, len(self)))]
        rows = used + sum(self._rows.dropped.values())
        trained = max(0, tokens - 1 - starts)
        return replace(self._rows, rows=rows, used=used, tokens=tokens, trained_tokens=trained, first=shown)


class DocumentSamples:
    """One document a sample, cut to T tokens (and the label of the last)."""

    def __init__(
        self, shards: TokenShards, receipt: Receipt, documents: np.ndarray, width: int, describe: Describe
    ) -> None:
        self.label = receipt.label
        self.fingerprint = hash_of(["rows", shards.fingerprint, hash_bytes(documents)])
        self.shards, self._rows, self._describe = shards, receipt, describe
        self._documents, self._width = documents, width
        self._lengths = np.minimum(shards.lengths[documents], width + 1)
        self.receipt = self._tell()

    def __len__(self) -> int:
        return len(self._documents)

    def __getitem__(self, index: int) -> Window:
        start, _ = self.shards.document(int(self._documents[index]))
        return Window(self.shards.read(start, start + int(self._lengths[index])), NONE)

    def length(self, index: int) -> int:
        return int(self._lengths[index]) - 1

    def place(self, index: int) -> str:
        return f"{self.label}, document {int(self._documents[index]) + 1}"

    def split(self, fraction: float) -> tuple[DocumentSamples, DocumentSamples]:
        """Hold out the last documents."""
        cut = int(len(self) * (1 - fraction))
        held_out = Receipt(f"{self.label} (held out)")
        return (
            DocumentSamples(self.shards, self._rows, self._documents[:cut], self._width, self._describe),
            DocumentSamples(self.shards, held_out, self._documents[cut:], self._width, self._describe),
        )

    def _tell(self) -> Receipt:
        tokens = int(self._lengths.sum())
        longer = np.flatnonzero(self.shards.lengths[self._documents] > self._lengths)
        places = {"truncated": [self.place(int(index)) for index in longer[:PLACES_SHOWN]]} if len(longer) else {}
        shown = [self._describe(self[index]) for index in range(min(SHOWN, len(self)))]
        rows = len(self) + sum(self._rows.dropped.values())
        told = replace(self._rows, rows=rows, used=len(self), truncated=len(longer), first=shown)
        places = {**self._rows.places, **places}
        return replace(told, tokens=tokens, trained_tokens=tokens - len(self), places=places)
