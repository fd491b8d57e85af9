"""Lines of a file by number: where each begins and ends is found once, and kept in the cache for large files.

A .gz file has no place to jump to, so it is unpacked into the cache first.
"""

from __future__ import annotations

import gzip
import os
import shutil
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ostinato.core.errors import UserError
from ostinato.core.manifest import hash_of
from ostinato.data.fingerprint import REMEMBERED_FROM, cache_folder

CHUNK = 1 << 26
LINE_END = 0x0A
WHITE_SPACE = b" \t\r"
VERSION = 1


class LineFile:
    """The lines of a file that are not blank. Reading is safe from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = unpacked(path) if path.suffix == ".gz" else path

    def __len__(self) -> int:
        return len(self._lines)

    def read(self, number: int) -> bytes:
        """The bytes of a line, without its end."""
        start, stop, _ = self._lines[number].tolist()
        return os.pread(self._file.fileno(), stop - start, start)

    def line(self, number: int) -> int:
        """Its number in the file, blank ones counted, from 1."""
        return int(self._lines[number][2])

    @cached_property
    def _file(self) -> Any:
        return self._path.open("rb")

    @cached_property
    def _lines(self) -> np.ndarray:
        """(lines, 3) int64: first byte, end, line number."""
        status = self._path.stat()
        if status.st_size < REMEMBERED_FROM:
            return find_lines(self._path)
        entry = [VERSION, str(self._path.resolve()), status.st_size, status.st_mtime_ns]
        memory = cache_folder() / "lines" / f"{hash_of(entry)}.npy"
        if not memory.is_file():
            _save(memory, find_lines(self._path))
        return np.load(memory, mmap_mode="r").view(np.ndarray)


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


def unpacked(path: Path) -> Path:
    """The content of a .gz file, as a file of the cache."""
    status = path.stat()
    entry = [VERSION, str(path.resolve()), status.st_size, status.st_mtime_ns]
    target = cache_folder() / "unpacked" / f"{hash_of(entry)}-{path.stem}"
    if target.is_file():
        return target
    temporary = _temporary(target)
    try:
        with gzip.open(path, "rb") as packed, temporary.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
        os.replace(temporary, target)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a whole .gz file: {error}. Fetch it again.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _save(target: Path, lines: np.ndarray) -> None:
    temporary = _temporary(target)
    with temporary.open("wb") as file:
        np.save(file, lines)
    os.replace(temporary, target)


def _temporary(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
