"""JSON as rows: one object a line (JSON Lines), or one array of objects; found by an index, read when asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ostinato.core.errors import UserError
from ostinato.core.registry import DATASETS
from ostinato.data.columns import fingerprint_of, lacking, named, no_column
from ostinato.data.fingerprint import find_files, fingerprint_files
from ostinato.data.line_index import LineFile
from ostinato.data.source import Row


class JsonFiles:
    """Rows of JSON Lines files and of files of one array, in order; `root` is the folder that their names count from.

    Raises UserError where they hold none.
    """

    def __init__(self, paths: Sequence[Path], root: Path | None, columns: dict[str, str] | None = None) -> None:
        self.paths, self.columns = paths, columns
        content, self.kind = fingerprint_files(self.paths, root)
        self.fingerprint = fingerprint_of(content, columns)
        self._files = [LineFile(file) for file in self.paths]
        if not len(self):
            raise UserError(f"{root or paths[0]}: holds no rows. Correct the dataset's path or pattern.")
        if columns is not None:
            self[0]  # a column that no row has is said once

    def __len__(self) -> int:
        return int(self._bounds[-1])

    def __getitem__(self, index: int) -> Row:
        file, number = self._find(index)
        row = self._parse(self._files[file].read(number), index)
        if missing := lacking(row, self.columns):
            raise no_column(self.place(index), missing, row, f"Row {index + 1}")
        return named(row, self.columns)

    def place(self, index: int) -> str:
        """The file and the line, from 1."""
        file, number = self._find(index)
        return f"{self.paths[file]}:{self._files[file].line(number)}"

    @cached_property
    def _bounds(self) -> np.ndarray:
        """(files + 1,) rows before each file."""
        return np.cumsum([0, *map(len, self._files)])

    def _find(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.paths[0]} and on: {len(self)} rows, no number {index}")
        file = int(np.searchsorted(self._bounds, index, side="right")) - 1
        return file, index - int(self._bounds[file])

    def _parse(self, line: bytes, index: int) -> dict[str, Any]:
        try:
            row = json.loads(line)
            if b"\\ud" in line.lower():  # half a surrogate pair is no text, though JSON can spell it
                json.dumps(row, ensure_ascii=False).encode()
        except UnicodeError as error:
            raise UserError(f"{self.place(index)}: not UTF-8 text: {error}. Correct the line.") from error
        except ValueError as error:
            raise UserError(f"{self.place(index)}: {_not_json(line, error)}") from error
        if not isinstance(row, dict):
            raise UserError(
                f"{self.place(index)}: {_short(line)} is no JSON object. A line is {{...}} with named values."
            )
        return row


@DATASETS.register("jsonl")
class Jsonl(JsonFiles):
    """A .jsonl file, a .json file of one array, either packed (.gz, .zst), or a folder's files that match `pattern`,
    sorted by path; a path may be a pattern itself. Blank lines are no rows.

    `columns` names what is read, as {name in the row: key in the file}, e.g. {prompt: question, response: answer}; left
    out: all keys as they are.
    """

    def __init__(
        self, seed: int, *, path: Path, pattern: str = "**/*.jsonl*", columns: dict[str, str] | None = None
    ) -> None:
        super().__init__(*find_files(path, pattern), columns)


def _not_json(line: bytes, error: ValueError) -> str:
    if line.lstrip()[:1] == b"[":
        return (
            f"a line begins with {_short(line)}: not JSON Lines. Write one object a line, or name a file of one array "
            ".json."
        )
    if line.strip() == b"{":
        return "an object over several lines: not JSON Lines. Write one object a line, or one array of objects (.json)."
    column = getattr(error, "colno", 1)
    near = line[max(0, column - 21) : column + 20].decode("utf-8", "replace")
    return f"not JSON at column {column}: {getattr(error, 'msg', error)}, near {near!r}. Correct the line."


def _short(line: bytes) -> str:
    text = line[:40].decode("utf-8", "replace")
    return repr(text + "..." if len(line) > 40 else text)
