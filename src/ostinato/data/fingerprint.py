"""What files hold, in 32 hex digits, without reading a large one again at every start.

Up to 1 GiB: xxh3-128 of the bytes; of large files it is kept in the cache by (path, size, mtime). Above: of the size
and 64 spread blocks of 1 MiB, marked "sampled".
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import xxhash

from ostinato.core.errors import UserError
from ostinato.core.manifest import hash_file, hash_of, write_json

SAMPLED_ABOVE = 1 << 30
REMEMBERED_FROM = 1 << 24
"""Smaller files are hashed faster than their entry is looked up."""
BLOCKS, BLOCK = 64, 1 << 20
WILD = "*?["


def cache_folder() -> Path:
    """Where prepared data is kept: $OSTINATO_CACHE, or ~/.cache/ostinato/data. All in it can be made again."""
    given = os.environ.get("OSTINATO_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "ostinato" / "data"


def temporary_beside(target: Path) -> Path:
    """Where to write what is then renamed to `target`, a name of this process's own."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")


@contextmanager
def made_once(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which becomes `folder` when it is whole, unless another process was first with the same."""
    temporary = folder.with_name(f".tmp-{folder.name}-{os.getpid()}-{os.urandom(4).hex()}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def fingerprint_files(files: Sequence[Path], root: Path | None = None) -> tuple[str, str]:
    """(fingerprint, kind) of one file's bytes, or of several files' names (below `root`) and bytes."""
    hashed = [fingerprint_file(file) for file in files]
    kind = "sampled" if any(kind == "sampled" for _, kind in hashed) else "full"
    if root is None and len(hashed) == 1:
        return hashed[0][0], kind
    names = [file.relative_to(root).as_posix() if root else file.name for file in files]
    return hash_of([[name, content] for name, (content, _) in zip(names, hashed, strict=True)]), kind


def fingerprint_file(file: Path) -> tuple[str, str]:
    """(fingerprint, "full" or "sampled") of one file."""
    status = file.stat()
    if status.st_size > SAMPLED_ABOVE:
        return _sampled(file, status.st_size), "sampled"
    if status.st_size < REMEMBERED_FROM:
        return hash_file(file), "full"
    entry = {"path": str(file.resolve()), "size": status.st_size, "mtime": status.st_mtime_ns}
    memory = cache_folder() / "fingerprints" / f"{hash_of(entry)}.json"
    try:
        return json.loads(memory.read_bytes())["xxh3"], "full"
    except (OSError, ValueError, KeyError):  # not there, or not whole: hash again
        content = hash_file(file)
    memory.parent.mkdir(parents=True, exist_ok=True)
    write_json(memory, {**entry, "xxh3": content}, durable=False)
    return content, "full"


def find_files(path: Path, pattern: str) -> tuple[list[Path], Path | None]:
    """The file itself, or a folder's files that match `pattern`, sorted by relative path, with the folder; a path with
    *, ? or [ is a folder and a pattern in one.

    Raises UserError for a path that is not there and where nothing matches.
    """
    if path.is_file():
        return [path], None
    if not path.exists() and any(sign in str(path) for sign in WILD):
        plain = next(number for number, part in enumerate(path.parts) if any(sign in part for sign in WILD))
        path, pattern = Path(*path.parts[:plain]), "/".join(path.parts[plain:])
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder (looked in {Path.cwd()}). Correct the dataset's path.")
    found = [file for file in path.glob(pattern) if file.is_file()]
    if not found:
        raise UserError(f"{path}: no file in it matches {pattern}. Correct the path, or set the dataset's pattern.")
    return sorted(found, key=lambda file: file.relative_to(path).as_posix()), path


def _sampled(file: Path, size: int) -> str:
    digest = xxhash.xxh3_128(str(size).encode())
    with file.open("rb") as content:
        for number in range(BLOCKS):
            content.seek(number * (size - BLOCK) // (BLOCKS - 1))
            digest.update(content.read(BLOCK))
    return digest.hexdigest()
