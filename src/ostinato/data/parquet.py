"""Parquet files as rows, a row group in memory at a time."""

from __future__ import annotations

import threading
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from ostinato.core.errors import UserError
from ostinato.core.manifest import hash_of
from ostinato.core.registry import DATASETS
from ostinato.data.fingerprint import find_files, fingerprint_files
from ostinato.data.source import Row

GROUPS_KEPT = 4


@DATASETS.register("parquet")
class Parquet:
    """A parquet file, or a folder's files that match `pattern`, sorted by path.

    `columns` names what is read, as {name in the row: column of the file}, e.g. {text: content}; left out: all.
    """

    def __init__(
        self, seed: int, *, path: Path, pattern: str = "**/*.parquet", columns: dict[str, str] | None = None
    ) -> None:
        self.paths, root = find_files(path, pattern)
        self.columns = columns
        self._files = [_open(file) for file in self.paths]
        for file, name in zip(self._files, self.paths, strict=True):
            _check(columns, file.schema_arrow.names, name)
        groups = [(f, g) for f, file in enumerate(self._files) for g in range(file.num_row_groups)]
        sizes = [self._files[f].metadata.row_group(g).num_rows for f, g in groups]
        self._groups, self._ends = groups, list(accumulate(sizes))
        if not self._ends or not self._ends[-1]:
            raise UserError(f"{path}: holds no rows. Correct the dataset's path or pattern.")
        content, self.kind = fingerprint_files(self.paths, root)
        self.fingerprint = content if columns is None else hash_of([content, columns])
        self._lock = threading.Lock()
        self._group = lru_cache(GROUPS_KEPT)(self._read_group)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Row:
        group, row = self._find(index)
        with self._lock:  # a parquet file has one read position
            table = self._group(group)
        return {name: table[name][row].as_py() for name in table.column_names}

    def place(self, index: int) -> str:
        """The file and its row, from 1."""
        group, row = self._find(index)
        file = self._groups[group][0]
        before = group - next(g for g in range(group + 1) if self._groups[g][0] == file)
        start = self._start(group - before)
        return f"{self.paths[file]}, row {self._start(group) - start + row + 1}"

    def _start(self, group: int) -> int:
        return self._ends[group - 1] if group else 0

    def _find(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.paths[0]} and on: {len(self)} rows, no number {index}")
        group = bisect_right(self._ends, index)
        return group, index - self._start(group)

    def _read_group(self, group: int) -> Any:
        file, number = self._groups[group]
        if self.columns is None:
            return self._files[file].read_row_group(number)
        table = self._files[file].read_row_group(number, columns=sorted(set(self.columns.values())))
        return table.select(list(self.columns.values())).rename_columns(list(self.columns))


def _open(path: Path) -> Any:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError:
        raise UserError("the parquet dataset needs pyarrow. Install it: pip install 'ostinato[parquet]'.") from None
    try:
        return ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{path}: not a parquet file: {error}. Leave it out by the dataset's pattern.") from error


def _check(columns: dict[str, str] | None, present: list[str], path: Path) -> None:
    missing = sorted(set((columns or {}).values()) - set(present))
    if missing:
        raise UserError(f"{path}: has no column {missing[0]!r}. Its columns: {', '.join(present)}.")
