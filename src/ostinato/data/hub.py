"""Data sets of the Hugging Face hub as rows: their parquet, JSON or Arrow files, fetched into the hub's own cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ostinato.core.errors import UserError
from ostinato.core.hub import Repository
from ostinato.core.registry import DATASETS
from ostinato.data.arrow import ArrowFiles
from ostinato.data.hub_layout import check_whole, choose, kind_of_file, matching
from ostinato.data.jsonl import JsonFiles
from ostinato.data.parquet import ParquetFiles
from ostinato.data.source import Row

READERS: dict[str, Callable[..., Any]] = {"parquet": ParquetFiles, "jsonl": JsonFiles, "arrow": ArrowFiles}
CARD = "README.md"


@DATASETS.register("hub")
class Hub:
    """A data set `path` (ORG/NAME) of the hub at a `revision` (branch, tag or commit; null: the main branch as it is
    now). The commit is recorded with the run. A loading script is never run.

    Which files hold `split` of `subset` is told by the data set's card, else by their names; `files` is a pattern that
    decides instead (data/*.jsonl.gz). `columns` names what is read, as {name in the row: column of the file}; left
    out: all.
    """

    def __init__(
        self,
        seed: int,
        *,
        path: str,
        revision: str | None = None,
        split: str = "train",
        subset: str | None = None,
        files: str | None = None,
        columns: dict[str, str] | None = None,
    ) -> None:
        repository = Repository(path, revision, "dataset")
        self.origin = repository.origin
        try:
            names = _chosen(repository, split, subset, files)
        except UserError as error:
            raise UserError(f"{self.origin}: {error}") from None
        folder = repository.fetch(names)
        (kind,) = {kind_of_file(name) for name in names}
        self._rows = READERS[str(kind)]([folder / name for name in names], folder, columns)
        self.fingerprint, self.kind = self._rows.fingerprint, self._rows.kind

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return self._rows[index]

    def place(self, index: int) -> str:
        """The file in the hub's cache, and the row in it."""
        return self._rows.place(index)


def _chosen(repository: Repository, split: str, subset: str | None, files: str | None) -> list[str]:
    """The files to read, all of one kind."""
    if files is not None:
        names = [name for name in matching(repository.files, files) if kind_of_file(name)]
        if not names:
            there = ", ".join(name for name in repository.files if kind_of_file(name)) or "none"
            raise UserError(f"no data file matches {files}. There are {there[:600]}.")
    else:
        has_card = CARD in repository.files
        card = (repository.fetch([CARD]) / CARD).read_text(encoding="utf-8") if has_card else ""
        names = choose(repository.files, card, subset, split)
    check_whole(names)
    if other := [name for name in names if not kind_of_file(name)]:
        raise UserError(f"{other[0]} is neither parquet, JSON nor Arrow. Choose with the dataset's files.")
    kinds = sorted({str(kind_of_file(name)) for name in names})
    if len(kinds) > 1:
        raise UserError(f"{' and '.join(kinds)} files. Choose with the dataset's files, e.g. files: '**/*.{kinds[0]}'.")
    return names
