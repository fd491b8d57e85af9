"""Text files as rows `{"text": ..}`: one document a file, or several where a separator divides them."""

from __future__ import annotations

import mmap
from functools import cached_property
from pathlib import Path

import numpy as np

from ostinato.core.errors import UserError
from ostinato.core.manifest import hash_of
from ostinato.core.registry import DATASETS
from ostinato.data.fingerprint import find_files, fingerprint_files
from ostinato.data.source import Row

EXCERPT_BYTES = 20


@DATASETS.register("text")
class Text:
    """A UTF-8 text file, or the files of a folder that match `pattern`, sorted by path. Line ends stay as they are.

    `separator` divides each file into documents and belongs to none: a blank line ("\\n\\n"), "<|endoftext|>".
    """

    def __init__(self, seed: int, *, path: Path, pattern: str = "**/*.txt", separator: str | None = None) -> None:
        if separator == "":
            raise ValueError("separator is empty. Leave it out for one document a file.")
        self.files, self.root = find_files(path, pattern)
        if not any(file.stat().st_size for file in self.files):
            raise UserError(f"{path}: holds no text, every file of it is empty. Correct the dataset's path or pattern.")
        self.separator = separator.encode() if separator else None
        content, self.kind = fingerprint_files(self.files, self.root)
        self.fingerprint = content if separator is None else hash_of([content, separator])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        number, start, stop = (int(value) for value in self._rows[index])
        with self.files[number].open("rb") as file:
            file.seek(start)
            content = file.read(stop - start)
        return {"text": decode(content, self.place(index), start)}

    def place(self, index: int) -> str:
        """The file, and with a separator which document of it."""
        number = int(self._rows[index][0])
        name = str(self.files[number])
        first = int(np.searchsorted(self._rows[:, 0], number))
        return name if self.separator is None else f"{name}, document {index - first + 1}"

    @cached_property
    def _rows(self) -> np.ndarray:
        """(rows, 3) int64: file number, first byte, end."""
        spans = [(number, *span) for number, file in enumerate(self.files) for span in self._spans(file)]
        return np.array(spans, dtype=np.int64).reshape(-1, 3)

    def _spans(self, file: Path) -> list[tuple[int, int]]:
        size = file.stat().st_size
        if self.separator is None or size == 0:
            return [(0, size)]
        spans, start = [], 0
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            while (found := content.find(self.separator, start)) >= 0:
                spans.append((start, found))
                start = found + len(self.separator)
        return spans if start == size else [*spans, (start, size)]


def decode(content: bytes, place: str, offset: int = 0) -> str:
    """UTF-8, or a UserError that says where it stops being that (`offset`: of `content` in its file)."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        found = content[error.start : error.start + EXCERPT_BYTES]
        raise UserError(
            f"{place}: not UTF-8 at byte {offset + error.start:,} ({found!r}). Convert the file, for example with "
            "`iconv -f latin1 -t utf-8`, or leave it out by the dataset's pattern."
        ) from error
