"""Rows of a file by number: where each begins and ends is found once, and kept in the cache for large files.

A row is a line that is not blank, or an element of the one array that a .json file holds. Compressed files are
unpacked into the cache first.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ostinato.core.manifest import hash_of
from ostinato.data.fingerprint import REMEMBERED_FROM, cache_folder, temporary_beside
from ostinato.data.json_array import begins_an_array, find_elements
from ostinato.data.unpacking import PACKED, unpacked

CHUNK = 1 << 26
LINE_END = 0x0A
WHITE_SPACE = b" \t\r"
VERSION = 2


class LineFile:
    """The lines of a file that are not blank, or an array's elements. Reading is safe from several threads."""

    def __init__(self, path: Path) -> None:
        self._name, self._path = path, unpacked(path)
        named = path.with_suffix("") if path.suffix in PACKED else path
        self.is_array = named.suffix == ".json" and begins_an_array(self._path)

    def __len__(self) -> int:
        return len(self._lines)

    def read(self, number: int) -> bytes:
        """The bytes of a row, without what ends it."""
        start, stop, _ = self._lines[number].tolist()
        return os.pread(self._file.fileno(), stop - start, start)

    def line(self, number: int) -> int:
        """The number of the line it begins in, blank ones counted, from 1."""
        return int(self._lines[number][2])

    @cached_property
    def _file(self) -> Any:
        return self._path.open("rb")

    @cached_property
    def _lines(self) -> np.ndarray:
        """(lines, 3) int64: first byte, end, line number."""
        status = self._path.stat()
        if status.st_size < REMEMBERED_FROM:
            return self._find()
        entry = [VERSION, self.is_array, str(self._path.resolve()), status.st_size, status.st_mtime_ns]
        memory = cache_folder() / "lines" / f"{hash_of(entry)}.npy"
        if not memory.is_file():
            _save(memory, self._find())
        return np.load(memory, mmap_mode="r").view(np.ndarray)

    def _find(self) -> np.ndarray:
        return find_elements(self._path, self._name) if self.is_array else find_lines(self._path)


def find_lines(path: Path) -> np.ndarray:
    """(lines, 3) int64: first byte, end, and number in the file of each line that is not blank."""
    size = path.stat().st_size
    if not size:
        return np.zeros((0, 3), dtype=np.int64)
    content = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
    parts = [np.flatnonzero(content[at : at + CHUNK] == LINE_END) + at for at in range(0, size, CHUNK)]
    ends = np.concatenate([*parts, [size]])
    starts = np.concatenate([[0], ends[:-1] + 1])
    filled = ends > starts
    # Only a line that begins with white space can be blank and not empty.
    suspects = np.flatnonzero(filled)[np.isin(content[starts[filled]], list(WHITE_SPACE))]
    filled[[number for number in suspects if not content[starts[number] : ends[number]].tobytes().strip()]] = False
    return np.stack([starts, ends, np.arange(1, len(starts) + 1)], axis=1)[filled]


def _save(target: Path, lines: np.ndarray) -> None:
    temporary = temporary_beside(target)
    with temporary.open("wb") as file:
        np.save(file, lines)
    os.replace(temporary, target)
