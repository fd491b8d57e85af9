"""Parquet files as rows, a row group in memory at a time."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from ostinato.core.errors import UserError
from ostinato.core.registry import DATASETS
from ostinato.data.arrow_rows import load_pyarrow, row_of
from ostinato.data.columns import fingerprint_of, lacking, no_column
from ostinato.data.fingerprint import find_files, fingerprint_files
from ostinato.data.source import Row

GROUPS_KEPT = 4


class ParquetFiles:
    """Rows of parquet files, in order; `root` is the folder that their names count from.

    Raises UserError where they hold none, or lack a column.
    """

    def __init__(self, paths: Sequence[Path], root: Path | None, columns: dict[str, str] | None = None) -> None:
        load_pyarrow("parquet")
        self.paths, self.columns = paths, columns
        self._footers = [_footer(file) for file in self.paths]
        groups = [(f, g) for f, footer in enumerate(self._footers) for g in range(footer.num_row_groups)]
        sizes = [self._footers[f].row_group(g).num_rows for f, g in groups]
        self._groups, self._ends = groups, list(accumulate(sizes))
        if not self._ends or not self._ends[-1]:
            raise UserError(f"{root or paths[0]}: holds no rows. Correct the dataset's path or pattern.")
        for file, (name, footer) in enumerate(zip(self.paths, self._footers, strict=True)):
            if missing := lacking(footer.schema.to_arrow_schema().names, columns):
                raise no_column(str(name), missing, self._first_row(file))
        content, self.kind = fingerprint_files(self.paths, root)
        self.fingerprint = fingerprint_of(content, columns)
        self._lock = threading.Lock()
        self._group = lru_cache(GROUPS_KEPT)(self._read_group)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Row:
        group, row = self._find(index)
        with self._lock:  # so that threads which want the same group read it once
            table = self._group(group)
        return row_of(table, row, table.column_names if self.columns is None else list(self.columns))

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
            return self._read(file, number, None)
        return self._read(file, number, sorted(set(self.columns.values()))).select(list(self.columns.values()))

    def _read(self, file: int, group: int, columns: list[str] | None) -> Any:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            with ParquetFile(self.paths[file], metadata=self._footers[file]) as opened:
                return opened.read_row_group(group, columns=columns)
        except (ArrowException, OSError) as error:
            raise UserError(
                f"{self.paths[file]}: row group {group} cannot be read: {error}. Fetch it again."
            ) from error

    def _first_row(self, file: int) -> Row:
        if not self._footers[file].num_rows:
            return dict.fromkeys(self._footers[file].schema.to_arrow_schema().names)
        table = self._read(file, 0, None)
        return row_of(table, 0, table.column_names)


@DATASETS.register("parquet")
class Parquet(ParquetFiles):
    """A parquet file, or a folder's files that match `pattern`, sorted by path; a path may be a pattern itself.

    `columns` names what is read, as {name in the row: column of the file}, e.g. {text: content}; left out: all.
    """

    def __init__(
        self, seed: int, *, path: Path, pattern: str = "**/*.parquet", columns: dict[str, str] | None = None
    ) -> None:
        super().__init__(*find_files(path, pattern), columns)


def _footer(path: Path) -> Any:
    import pyarrow
    from pyarrow.parquet import read_metadata

    try:
        return read_metadata(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a parquet file: {error}. Leave it out by the dataset's pattern.") from error
