"""Parquet files that need not fit on the disk: their row groups are read and tokenised when training comes to them."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

from ostinato.core.errors import OstinatoError, RefusedError, UserError
from ostinato.core.manifest import hash_bytes, hash_of
from ostinato.core.registry import DATASETS
from ostinato.data.arrow_rows import load_pyarrow, row_of
from ostinato.data.columns import fingerprint_of, lacking, no_column
from ostinato.data.source import Row
from ostinato.data.stores import names_below, parquet_files, without_credentials

FOOTERS_AT_ONCE = 16
TABLES_KEPT = 2


class Group(NamedTuple):
    """A row group of a file: `first`, the number of its first row in the file; `size`, the bytes of what is read."""

    file: int
    number: int
    first: int
    rows: int
    size: int


@DATASETS.register("stream")
class Stream:
    """Parquet files at `path`: a folder or a pattern, on the disk or in a store that fsspec knows (s3://, gs://,
    hf://datasets/ORG/NAME@REVISION/data/*.parquet). Only their footers are read before training.

    `pretrain` and `sft` tokenise a row group when they come to it and keep `cache_gib` of what was tokenised last;
    other algorithms read everything first. Each epoch visits the row groups in a new order and shuffles the samples of
    `shuffle_groups` of them together. `columns` names what is read, as {name in the row: column of the file}.
    """

    kind = "sampled"

    def __init__(
        self,
        seed: int,
        *,
        path: str,
        shuffle_groups: int = 8,
        cache_gib: float = 16.0,
        columns: dict[str, str] | None = None,
    ) -> None:
        if shuffle_groups < 1 or cache_gib <= 0:
            raise ValueError(f"shuffle_groups: {shuffle_groups} or cache_gib: {cache_gib} is not positive.")
        load_pyarrow("stream")
        self.shuffle_groups, self.cache_bytes = shuffle_groups, cache_gib * 2**30
        self.columns, self.origin = columns, without_credentials(path)
        self.files, self._open = parquet_files(path)
        with ThreadPoolExecutor(FOOTERS_AT_ONCE) as threads:
            self._footers, digests = zip(*threads.map(self._footer, self.files), strict=True)
        self.groups = [group for file, footer in enumerate(self._footers) for group in self._groups(file, footer)]
        self._ends = list(accumulate(group.rows for group in self.groups))
        if not self.groups:
            raise UserError(f"{path}: holds no rows. Correct the dataset's path.")
        self._lock = threading.Lock()
        self._kept = lru_cache(TABLES_KEPT)(self.table)
        for number, footer in enumerate(self._footers):
            missing = lacking(footer.schema.to_arrow_schema().names, columns)
            if missing and footer.num_rows:
                raise no_column(self.files[number], missing, self._first_row(number))
        content = hash_of([list(entry) for entry in zip(names_below(self.files), digests, strict=True)])
        self.fingerprint = fingerprint_of(content, columns)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Row:
        group, row = self.find(index)
        with self._lock:
            table = self._kept(group)
        return row_of(table, row, self._names(table))

    def place(self, index: int) -> str:
        """The file and its row, from 1."""
        number, row = self.find(index)
        group = self.groups[number]
        return f"{self.files[group.file]}, row {group.first + row + 1}"

    def find(self, index: int) -> tuple[int, int]:
        """The row group that holds a row, and the row's number in it."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.files[0]} and on: {len(self)} rows, no number {index}")
        group = bisect_right(self._ends, index)
        return group, index - (self._ends[group - 1] if group else 0)

    def group(self, number: int) -> GroupRows:
        """The rows of a row group as a source."""
        return GroupRows(self, number, self._ends[number] - self.groups[number].rows)

    def table(self, number: int) -> Any:
        """A row group in memory, only what is read of it."""
        group = self.groups[number]
        return self._read(group.file, group.number, None if self.columns is None else list(self.columns.values()))

    def _names(self, table: Any) -> list[str]:
        return table.column_names if self.columns is None else list(self.columns)

    def _read(self, file: int, group: int, columns: list[str] | None) -> Any:
        from pyarrow.parquet import ParquetFile

        try:
            with self._open(self.files[file]) as opened:
                parquet = ParquetFile(opened)
                if not parquet.metadata.equals(self._footers[file]):
                    raise RefusedError(f"{self.files[file]}: is not the file that it was at the start.")
                table = parquet.read_row_group(group, columns=columns and sorted(set(columns)))
        except RefusedError:
            raise
        except Exception as error:  # every store has its own
            what = f"{self.files[file]}: row group {group} cannot be read: {type(error).__name__}: {error}"
            raise OstinatoError(f"{what}. A resume goes on from the last checkpoint.") from error
        return table if columns is None else table.select(columns)

    def _footer(self, file: str) -> tuple[Any, str]:
        """The parsed footer, and a hash of its bytes: places, sizes and bounds of all that the file holds."""
        from pyarrow.parquet import ParquetFile

        try:
            with self._open(file) as opened:
                size = opened.seek(-8, 2) + 8
                length = int.from_bytes(opened.read(4), "little")
                opened.seek(-min(8 + length, size), 2)
                digest = hash_bytes(opened.read(length))
                return ParquetFile(opened).metadata, hash_of([size, digest])
        except Exception as error:  # every store has its own
            raise UserError(f"{file}: not a parquet file that can be read: {error}.") from error

    def _groups(self, file: int, footer: Any) -> Iterator[Group]:
        first, read = 0, None if self.columns is None else set(self.columns.values())
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            columns = [group.column(column) for column in range(group.num_columns)]
            sizes = [
                c.total_uncompressed_size for c in columns if read is None or c.path_in_schema.split(".")[0] in read
            ]
            if group.num_rows:
                yield Group(file, number, first, group.num_rows, sum(sizes))
            first += group.num_rows

    def _first_row(self, file: int) -> Row:
        table = self._read(file, 0, None)
        return row_of(table, 0, table.column_names)


class GroupRows:
    """The rows of one row group, read when the first of them is asked for."""

    kind = "sampled"

    def __init__(self, stream: Stream, number: int, first: int) -> None:
        self._stream, self._number, self._first = stream, number, first
        self.fingerprint = hash_of([stream.fingerprint, number])
        self._table: Any = None

    def __len__(self) -> int:
        return self._stream.groups[self._number].rows

    def __getitem__(self, index: int) -> Row:
        if self._table is None:
            self._table = self._stream.table(self._number)
        return row_of(self._table, index, self._stream._names(self._table))

    def place(self, index: int) -> str:
        return self._stream.place(self._first + index)
