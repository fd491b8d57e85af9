"""Where the elements of a JSON array lie in its file: found in one pass, a part of the file in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from ostinato.core.errors import UserError

PIECE = 1 << 22
"""Characters read at a time; an element may be larger."""
WHITE_SPACE = " \t\r\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def begins_an_array(path: Path) -> bool:
    """Whether the first character that is no white space is a [."""
    with path.open("rb") as file:
        return file.read(1 << 16).removeprefix(BYTE_ORDER_MARK).lstrip()[:1] == b"["


def find_elements(path: Path, name: Path) -> np.ndarray:
    """(elements, 3) int64: first byte, end, and line (from 1) of each element of the array that a UTF-8 file holds.

    Raises UserError, which calls the file `name`, where it is no JSON array to its end.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            found = list(_Scanner(file, name))
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 text: {error}. Convert the file.") from error
    return np.array(found, dtype=np.int64).reshape(-1, 3)


class Element(NamedTuple):
    """Its first byte, its end, the line it begins in."""

    start: int
    stop: int
    line: int


class _Scanner:
    """Reads along the file; `_text` from `_at` on is what is not yet read, `_byte` and `_line` are where that is."""

    def __init__(self, file: TextIO, name: Path) -> None:
        self._file, self._name = file, name
        self._text, self._at, self._byte, self._line, self._ended = "", 0, 0, 1, False
        self._decoder = json.JSONDecoder()

    def __iter__(self) -> Iterator[Element]:
        if self._next() == "\ufeff":
            self._pass(1)
        self._expect("[")
        if self._next() == "]":
            self._pass(1)
        else:
            yield self._element()
            while self._expect(",]") == ",":
                yield self._element()
        if self._next():
            raise self._error("Extra data behind the array")

    def _element(self) -> Element:
        self._next()
        size = PIECE
        while True:
            try:
                _, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended:
                    self._pass(error.pos - self._at)
                    raise self._error(error.msg) from error
            else:
                if end < len(self._text) or self._ended:  # a number could go on
                    start, line = self._byte, self._line
                    self._pass(end - self._at)
                    return Element(start, self._byte, line)
            self._read(size)
            size *= 2

    def _expect(self, characters: str) -> str:
        found = self._next()
        if not found or found not in characters:
            raise self._error(f"Expecting {' or '.join(map(repr, characters))}")
        self._pass(1)
        return found

    def _next(self) -> str:
        """The next character that is no white space; the empty string at the end."""
        while True:
            end = self._at
            while end < len(self._text) and self._text[end] in WHITE_SPACE:
                end += 1
            self._pass(end - self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._read(PIECE)

    def _read(self, size: int) -> None:
        more = self._file.read(size)
        self._ended = not more
        self._text, self._at = self._text[self._at :] + more, 0

    def _pass(self, count: int) -> None:
        passed = self._text[self._at : self._at + count]
        self._at += count
        self._byte += len(passed.encode())
        self._line += passed.count("\n")

    def _error(self, message: str) -> UserError:
        near = self._text[self._at : self._at + 30]
        return UserError(
            f"{self._name}:{self._line}: not a JSON array at byte {self._byte:,}: {message}, near {near!r}. "
            "Correct the file."
        )
