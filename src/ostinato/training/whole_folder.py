"""A folder that is there whole or not at all: written under another name beside its own, then renamed."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ostinato.core.errors import OstinatoError, UserError
from ostinato.core.manifest import fsync_folder

MODEL_FILES = ("config.json", "adapter_config.json")
KNOWN_FOLDERS = {"additional_chat_templates"}


@contextmanager
def whole_folder(target: Path, *, replace: bool, room_bytes: int = 0) -> Iterator[Path]:
    """The folder to write into; it gets the name `target` when all went well, and is removed when not.

    With `replace` a model folder that is there already gives way in the last moment. UserError: something is there, or
    `room_bytes` are not free; OstinatoError: the disk refused.
    """
    target = target.resolve()
    new = target.with_name(f".{target.name}.writing-{os.getpid()}")
    try:
        remove_leftovers(target)
        check_target(target, replace)
        target.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(target.parent).free) < room_bytes:
            raise UserError(f"{target}: {room_bytes:,} bytes are needed there, {free:,} are free.")
        new.mkdir()
        yield new
        fsync_folder(new)
        check_target(target, replace)
        put_in_place(new, target)
    except OSError as error:
        raise OstinatoError(f"{target} cannot be written: {error.strerror or error}. Nothing is left of it.") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_target(target: Path, replace: bool) -> None:
    """Raise UserError unless a folder may be made there. Only what looks like an exported model is ever replaced."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not target.is_dir():
        raise UserError(f"{target} is no folder. Give another place: --to DIR.")
    if not replace:
        raise UserError(f"{target} is not empty. Give another place, or replace what is there: --force.")
    is_model = any((target / name).is_file() for name in MODEL_FILES)
    is_model &= {path.name for path in target.iterdir() if path.is_dir()} <= KNOWN_FOLDERS
    if not is_model or (target.parent / "manifest.json").is_file():
        raise UserError(f"{target} is no exported model, so it is not replaced. Remove it, or give another place.")


def put_in_place(new: Path, target: Path) -> None:
    """Rename; what had the name before is renamed away first and deleted last."""
    old = target.with_name(f".{target.name}.replaced-{os.getpid()}")
    if target.exists():
        os.rename(target, old)
    os.rename(new, target)
    fsync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(target: Path) -> None:
    """What processes that are gone were writing or replacing here; an old folder that lost its name gets it back."""
    for kind in ("replaced", "writing"):
        for path in target.parent.glob(f".{glob.escape(target.name)}.{kind}-*"):
            if is_running(path.name.rpartition("-")[2]):
                continue
            if kind == "replaced" and not target.exists():
                os.rename(path, target)
            else:
                shutil.rmtree(path, ignore_errors=True)


def is_running(pid: str) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True
