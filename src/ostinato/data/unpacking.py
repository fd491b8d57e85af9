"""Compressed files, unpacked once into the cache: a .gz or .zst file has no place to jump to.

The unpacked file is named for the content of the packed one, so that copies and links share it.
"""

from __future__ import annotations

import gzip
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ostinato.core.errors import UserError
from ostinato.core.manifest import hash_of
from ostinato.data.fingerprint import cache_folder, fingerprint_file, temporary_beside

VERSION = 2
PACKED = (".gz", ".zst")
PIECE = 1 << 20


def unpacked(path: Path) -> Path:
    """The content of a .gz or .zst file, as a file of the cache; any other file is itself.

    Raises UserError for one that is damaged or cut short, and for .zst where nothing can read it.
    """
    if path.suffix not in PACKED:
        return path
    content, kind = fingerprint_file(path)
    entry: list[Any] = [VERSION, content]
    if kind == "sampled":  # equal samples are not equal files
        entry += [str(path.resolve()), path.stat().st_mtime_ns]
    target = cache_folder() / "unpacked" / hash_of(entry)
    if not target.is_file():
        _unpack(path, target)
    return target


def _unpack(path: Path, target: Path) -> None:
    opened, damage = READERS[path.suffix]()
    temporary = temporary_beside(target)
    try:
        with opened(path) as packed, temporary.open("wb") as file:
            shutil.copyfileobj(packed, file, PIECE)
        os.replace(temporary, target)
    except damage as error:
        raise UserError(f"{path}: not a whole {path.suffix} file: {error}. Fetch it again.") from error
    finally:
        temporary.unlink(missing_ok=True)


Opener = Callable[[Path], Any]
Reader = tuple[Opener, tuple[type[BaseException], ...]]
"""How a file is opened, and what is raised where it is damaged."""


def _gzip() -> Reader:
    return gzip.open, (gzip.BadGzipFile, EOFError, zlib.error)


def _zstd() -> Reader:
    """Python's own (3.14), or pyarrow's. The zstandard package reads a file that was cut short as if it were whole."""
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]

        return zstd.open, (zstd.ZstdError, EOFError)
    except ModuleNotFoundError:
        pass
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise UserError(
            "a .zst file needs something that reads it. Install it: pip install 'ostinato[parquet]'."
        ) from None
    return lambda path: pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd"), (OSError, EOFError)


READERS: dict[str, Callable[[], Reader]] = {".gz": _gzip, ".zst": _zstd}
