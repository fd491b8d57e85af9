"""The source of Python's own standard library: real text that every Python installation has."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from ostinato.core.errors import UserError
from ostinato.core.registry import DATASETS
from ostinato.data.fingerprint import fingerprint_files
from ostinato.data.source import Row
from ostinato.data.text import decode

TEST_FOLDERS = {"test", "tests", "idle_test"}
TABLES = {"encodings", "pydoc_data"}  # generated, megabytes of the same line
NOT_THE_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}


@DATASETS.register("standard_library")
class StandardLibrary:
    """Its .py files, sorted by path, one document each; without generated tables, nor its tests unless asked for.

    `megabytes` takes only the first files, up to that size together. Another Python version is other content.
    """

    kind = "full"

    def __init__(self, seed: int, *, megabytes: float | None = None, tests: bool = False) -> None:
        self.root = Path(sysconfig.get_paths()["stdlib"])
        left_out = NOT_THE_LIBRARY | TABLES | (set() if tests else TEST_FOLDERS)
        self.files = _limited(_sources(self.root, left_out), megabytes)
        if not self.files:
            raise UserError(f"{self.root}: no Python source to read. Raise megabytes, or install Python's library.")
        self.fingerprint, _ = fingerprint_files(self.files, self.root)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Row:
        return {"text": decode(self.files[index].read_bytes(), self.place(index))}

    def place(self, index: int) -> str:
        """Its path below the library's folder."""
        return self.files[index].relative_to(self.root).as_posix()


def _sources(root: Path, left_out: set[str]) -> list[Path]:
    found = []
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if name not in left_out]  # not even looked into
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(found, key=lambda file: file.relative_to(root).as_posix())


def _limited(files: list[Path], megabytes: float | None) -> list[Path]:
    if megabytes is None:
        return files
    kept, size = [], 0
    for file in files:
        size += file.stat().st_size
        if size > megabytes * 1e6:
            break
        kept.append(file)
    return kept
