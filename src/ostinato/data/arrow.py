"""Arrow files as rows, memory-mapped: what `datasets` saves to disk, and .arrow files of any origin."""

from __future__ import annotations

import json
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

STATE, SPLITS = "state.json", "dataset_dict.json"
BATCHES_KEPT = 16
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
REMEDY = "Fetch it again, or save it again."


class ArrowFiles:
    """Rows of .arrow files, in order; `root` is the folder that their names count from.

    Raises UserError where they hold none, or lack a column.
    """

    def __init__(self, paths: Sequence[Path], root: Path | None, columns: dict[str, str] | None = None) -> None:
        load_pyarrow("arrow")
        self.paths, self.columns = paths, columns
        batches = [(number, batch) for number, file in enumerate(self.paths) for batch in open_batches(file)]
        self._batches = [batch for _, batch in batches if batch.rows]
        self._files = [number for number, batch in batches if batch.rows]
        self._ends = list(accumulate(batch.rows for batch in self._batches))
        if not self._ends:
            raise UserError(f"{root or paths[0]}: holds no rows. Correct the dataset's path or pattern.")
        for number in sorted(set(self._files)):
            first = self._files.index(number)
            if missing := lacking(self._batches[first].names, columns):
                raise no_column(str(self.paths[number]), missing, self._row(first, 0, None))
        content, self.kind = fingerprint_files(self.paths, root)
        self.fingerprint = fingerprint_of(content, columns)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Row:
        return self._row(*self._find(index), self.columns)

    def place(self, index: int) -> str:
        """The file and its row, from 1."""
        batch, _ = self._find(index)
        first = self._files.index(self._files[batch])
        return f"{self.paths[self._files[batch]]}, row {index - self._start(first) + 1}"

    def _row(self, batch: int, row: int, columns: dict[str, str] | None) -> Row:
        table = self._batches[batch].load()
        if columns is None:
            return row_of(table, row, table.schema.names)
        return row_of(table.select(list(columns.values())), row, list(columns))

    def _start(self, batch: int) -> int:
        return self._ends[batch - 1] if batch else 0

    def _find(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.paths[0]} and on: {len(self)} rows, no number {index}")
        batch = bisect_right(self._ends, index)
        return batch, index - self._start(batch)


@DATASETS.register("arrow")
class Arrow(ArrowFiles):
    """What `datasets` wrote with `save_to_disk`, an .arrow file (file or stream format), or a folder's files that match
    `pattern`, sorted by path; a path may be a pattern itself.

    `split` names which part of a saved DatasetDict is read. `columns` names what is read, as {name in the row: column
    of the file}; left out: all.
    """

    def __init__(
        self,
        seed: int,
        *,
        path: Path,
        split: str | None = None,
        pattern: str = "**/*.arrow",
        columns: dict[str, str] | None = None,
    ) -> None:
        folder = _split_of(path, split)
        saved = _saved_files(folder)
        super().__init__(*((saved, folder) if saved else find_files(folder, pattern)), columns)


class Batch:
    """A record batch of a mapped file. That of a stream stays; that of a file is made when it is asked for, since
    there it may be compressed."""

    def __init__(self, batch: Any, load: Any = None) -> None:
        self.rows: int = batch.num_rows
        self.names: list[str] = batch.schema.names
        self.load = load or (lambda: batch)


def open_batches(path: Path) -> list[Batch]:
    """The record batches of an .arrow file in the file or the stream format."""
    import pyarrow

    try:
        mapped = pyarrow.memory_map(str(path))
        if mapped.read(6) != b"ARROW1":
            mapped.seek(max(0, mapped.size() - len(END_OF_STREAM)))
            if mapped.read() != END_OF_STREAM:  # cut between two batches, it would read as a shorter one
                raise UserError(f"{path}: does not end as an arrow stream does: it is cut short, or none. {REMEDY}")
            mapped.seek(0)
            return [Batch(batch) for batch in pyarrow.ipc.open_stream(mapped)]
        file = pyarrow.ipc.open_file(mapped)
        get = lru_cache(BATCHES_KEPT)(file.get_batch)
        return [Batch(get(number), lambda number=number: get(number)) for number in range(file.num_record_batches)]
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a whole arrow file: {error}. {REMEDY}") from error


def _split_of(path: Path, split: str | None) -> Path:
    """The folder of a split of a saved DatasetDict, or the path itself."""
    if not (path / SPLITS).is_file():
        if split is not None:
            raise UserError(f"{path}: has no splits, but split is {split}. Leave split out.")
        return path
    splits = _json(path / SPLITS).get("splits", [])
    if split is None or split not in splits:
        what = "which of its splits is read is not said" if split is None else f"has no split {split!r}"
        raise UserError(f"{path}: {what}. Set the dataset's split: {', '.join(splits) or 'none there'}.")
    return path / split


def _saved_files(folder: Path) -> list[Path]:
    """The files of a saved Dataset in order; none where the folder is no such thing."""
    if not (folder / STATE).is_file():
        return []
    state = _json(folder / STATE)
    if state.get("_indices_data_files"):
        raise UserError(f"{folder}: a selection that was saved by an old version of datasets. Save it again.")
    files = [folder / entry["filename"] for entry in state.get("_data_files", [])]
    if missing := [file for file in files if not file.is_file()]:
        raise UserError(f"{missing[0]}: is missing, but {folder / STATE} names it. Save or copy the folder again.")
    return files


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}. Save or copy the folder again.") from error
    return value if isinstance(value, dict) else {}
