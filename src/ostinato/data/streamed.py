"""Samples of a stream: its row groups are tokenised as training comes to them, the last used are kept in the cache.

Each group is prepared as a source of its own, so that rows are checked and documents laid end to end as ever; what
cannot be trained on is found when its group is read. A row that is dropped leaves its place empty: nothing else moves.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any, NoReturn

import numpy as np

from ostinato.core.errors import UserError
from ostinato.core.manifest import hash_of
from ostinato.data.block_order import Blocks
from ostinato.data.bounded_cache import BoundedCache
from ostinato.data.documents import encode_documents
from ostinato.data.encoding import TrainedTokens
from ostinato.data.formats import DataOptions
from ostinato.data.receipt import Receipt
from ostinato.data.row_preparation import encode_rows
from ostinato.data.stream import GroupRows, Stream
from ostinato.data.token_samples import NONE, Window
from ostinato.data.tokens import TokenShards

SHOWN = 2


class StreamedSamples:
    """What samples of a stream have in common; reading is safe from several threads and processes."""

    def __init__(self, label: str, source: Stream, options: DataOptions, describe: Callable[[Any], str]) -> None:
        self.label, self._source, self._describe = label, source, describe
        self._cache = BoundedCache(options.cache / "streamed" / source.fingerprint, source.cache_bytes)
        self._options = replace(options, cache=self._cache.folder)
        self._shards = lru_cache(source.shuffle_groups + 1)(self._open)
        made_of = [options.sequence_length, options.train_on, options.overlong, options.on_empty]
        tokenizer = options.tokenizer.fingerprint
        self.fingerprint = hash_of([type(self).__name__, source.fingerprint, tokenizer, made_of, self.sizes])
        self.receipt = self._tell()

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, ...]:
        """Samples of each row group."""

    @abstractmethod
    def __getitem__(self, index: int) -> Any: ...

    @abstractmethod
    def length(self, index: int) -> int: ...

    @abstractmethod
    def place(self, index: int) -> str: ...

    @abstractmethod
    def prepare(self, rows: GroupRows) -> TokenShards:
        """The tokens of a row group, from the cache where they are."""

    @property
    def blocks(self) -> Blocks:
        """The row groups, for the plan."""
        return Blocks(self.sizes, self._source.shuffle_groups)

    def split(self, fraction: float) -> NoReturn:
        raise UserError("data.validation_fraction: a stream has no end to hold out. Name a data.validation.")

    def find(self, index: int) -> tuple[TokenShards, int]:
        """The tokens of the row group that holds a sample, and the sample's number in it."""
        if not 0 <= index < self._ends[-1]:
            raise IndexError(f"{self.label} has {self._ends[-1]} samples, no number {index}")
        group = bisect_right(self._ends, index)
        return self._shards(group), index - (self._ends[group - 1] if group else 0)

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(self.sizes))

    def _tell(self) -> Receipt:
        """Of what is known before it is read."""
        first = [self._describe(self[index]) for index in range(min(SHOWN, len(self)))]
        kind = f"{self._shards(0).notes.get('kind') or 'text'}, tokenised as they are read"
        rows = len(self._source)
        return Receipt(self.label, rows=rows, used=rows, first=first, kind=kind, origin=self._source.origin)

    def _open(self, group: int) -> TokenShards:
        rows = self._source.group(group)
        return self._cache.open(rows.fingerprint, lambda: self.prepare(rows))


class StreamedRows(StreamedSamples):
    """Rows of any fine-tuning kind; a sample is a row."""

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(group.rows for group in self._source.groups)

    def prepare(self, rows: GroupRows) -> TokenShards:
        return encode_rows(rows, self._options)

    def __getitem__(self, index: int) -> TrainedTokens:
        shards, row = self.find(index)
        dropped = sorted(number for rows in shards.notes["dropped"].values() for number in rows)
        before = bisect_left(dropped, row)
        if before < len(dropped) and dropped[before] == row:
            return TrainedTokens(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool))
        start, stop = shards.document(row - before)
        return TrainedTokens(shards.read(start, stop).astype(np.int64), shards.read_mask(start, stop) == 1)

    def length(self, index: int) -> int:
        return len(self[index].ids)

    def place(self, index: int) -> str:
        return self._source.place(index)


class StreamedWindows(StreamedSamples):
    """Windows of T tokens over the documents of a row group end to end.

    How many a group has must be known before it is read: ceil(its bytes * the first group's tokens per byte / T). Where
    that is too many, the last are short or empty; where it is too few, the tokens behind them are not read.
    """

    @cached_property
    def sizes(self) -> tuple[int, ...]:  # type: ignore[override]
        per_byte = self._shards(0).total / max(1, self._source.groups[0].size)
        width = self._options.sequence_length
        return tuple(max(1, int(np.ceil(group.size * per_byte / width))) for group in self._source.groups)

    def prepare(self, rows: GroupRows) -> TokenShards:
        return encode_documents(rows, self._options.tokenizer, self._options.cache, self.label)

    def __getitem__(self, index: int) -> Window:
        shards, start, stop = self._bounds(index)
        if stop - start < 2:
            return Window(np.zeros(1, dtype=np.int64), NONE)
        return Window(shards.read(start, stop), shards.starts(start + 1, stop) - start)

    def length(self, index: int) -> int:
        _, start, stop = self._bounds(index)
        return max(0, stop - start - 1)

    def place(self, index: int) -> str:
        group = bisect_right(self._ends, index)
        entry = self._source.groups[group]
        number = index - (self._ends[group - 1] if group else 0)
        return f"{self._source.files[entry.file]}, row group {entry.number}, window {number + 1}"

    def _bounds(self, index: int) -> tuple[TokenShards, int, int]:
        shards, number = self.find(index)
        start = number * self._options.sequence_length
        return shards, start, min(start + self._options.sequence_length + 1, shards.total)
