"""Where files lie that are not copied here: a folder, or a store that fsspec knows."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ostinato.core.errors import UserError
from ostinato.data.fingerprint import WILD, find_files

CREDENTIALS = re.compile(r"//[^/@]+@")


def without_credentials(path: str) -> str:
    """A URL as it may be recorded."""
    return CREDENTIALS.sub("//", path)


def names_below(files: Sequence[str]) -> list[str]:
    """The files' names below the folder that they have in common: the same wherever that lies."""
    root = (
        os.path.commonpath([os.path.dirname(file) for file in files]) if len(files) > 1 else os.path.dirname(files[0])
    )
    return [os.path.relpath(file, root or ".") for file in files]


def parquet_files(path: str) -> tuple[list[str], Any]:
    """The parquet files below a path or URL in order, and what opens one."""
    if "://" not in path:
        found, _ = find_files(Path(path), "**/*.parquet")
        return [str(file) for file in found], lambda name: Path(name).open("rb")
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError:
        raise UserError(f"{path}: needs fsspec. Install it: pip install fsspec, and what its store needs.") from None
    try:
        store, below = url_to_fs(path)
        names = store.glob(below) if any(sign in below for sign in WILD) else store.find(below)
    except Exception as error:  # every store has its own
        raise UserError(f"{path}: cannot be listed: {error}") from error
    files = sorted(name for name in names if name.endswith(".parquet"))
    if not files:
        raise UserError(f"{path}: no parquet file there. Correct the dataset's path.")
    return files, lambda name: store.open(name, "rb")
