"""Files that prove themselves: canonical JSON, hashes, atomic writes, and the check of a checkpoint (without torch)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import xxhash

from ostinato.core.errors import UserError

CHECKPOINT_FORMAT = "ostinato-checkpoint"
CHECKPOINT_VERSION = 1


class Damaged(Exception):
    """A file is missing, cut, altered or of the wrong kind; the message names it and the problem."""


class NewerFormat(Exception):
    """Written by a newer version of ostinato than this one."""


def canonical_json(value: Any) -> bytes:
    """One spelling for one value: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def hash_of(value: Any) -> str:
    """xxh3-128 of the canonical JSON of `value`, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(canonical_json(value))


def hash_bytes(data: Any) -> str:
    """xxh3-128 of bytes or of any buffer, 32 hex digits."""
    return xxhash.xxh3_128_hexdigest(data)


def hash_file(path: Path, chunk_bytes: int = 1 << 22) -> str:
    """xxh3-128 of a file's bytes, 32 hex digits."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(chunk_bytes):
            digest.update(chunk)
    return digest.hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make renames and new entries of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} where there is no such file. Raises UserError for anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}.") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: no JSON object.")
    return found


def json_text(value: Any) -> bytes:
    """The bytes of a JSON file as we write it."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Replace a JSON file whole: temporary file, fsync (unless not `durable`), rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(json_text(value))
        file.flush()
        if durable:
            os.fsync(file.fileno())
    os.replace(temporary, path)
    if durable:
        fsync_folder(path.parent)


def seal(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with its own hash under `xxh3`."""
    body = {name: value for name, value in manifest.items() if name != "xxh3"}
    return {**body, "xxh3": hash_of(body)}


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint folder: its hash, format, version, step checked; raises Damaged or NewerFormat."""
    path = folder / "manifest.json"
    try:
        data = path.read_bytes()
        manifest = json.loads(data)
    except FileNotFoundError:
        raise Damaged("manifest.json is missing") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise Damaged(f"manifest.json cannot be parsed: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != CHECKPOINT_FORMAT:
        raise Damaged("manifest.json is not of an ostinato checkpoint")
    if isinstance(manifest.get("version"), int) and manifest["version"] > CHECKPOINT_VERSION:
        raise NewerFormat(f"{path}: checkpoint format {manifest['version']}, this ostinato reads {CHECKPOINT_VERSION}")
    try:
        sound = seal(manifest)["xxh3"] == manifest.get("xxh3") and json_text(manifest) == data
    except ValueError:  # NaN or infinity, which json.loads accepts
        sound = False
    if not sound:
        raise Damaged("manifest.json does not match its own hash")
    if folder.name != f"step_{manifest['step']:08d}":
        raise Damaged(f"manifest.json is of step {manifest['step']}, the folder is called {folder.name}")
    return manifest


def verify_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Check size and hash of every listed file, before any of it is used; raises Damaged naming the first bad one."""
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise Damaged(f"{name} is missing")
        if (size := path.stat().st_size) != entry["bytes"]:
            raise Damaged(f"{name} has {size} bytes instead of {entry['bytes']}")
        if hash_file(path) != entry["xxh3"]:
            raise Damaged(f"{name} does not match its hash")
