"""Runs put aside, and brought back: nothing of a run is deleted."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ostinato.core.errors import UserError
from ostinato.experiment.finding import run_folders
from ostinato.experiment.reading import read_or_empty, state_of

LIVE = ("created", "running")


def put_aside(folder: Path, *, force: bool = False) -> Path:
    """Move a run to `<root>/.trash/<date>-<name>`; UserError for a live one, or one that others started from."""
    if (state := state_of(folder)) in LIVE:
        raise UserError(f"{folder.name} is {state}: stop it first.")
    children = dependents(folder)
    if children and not force:
        raise UserError(f"{folder.name}: {', '.join(children)} started from it. --force puts it aside all the same.")
    trash = folder.parent / ".trash"
    trash.mkdir(exist_ok=True)
    target = trash / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{folder.name}"
    os.rename(folder, target)
    return target


def dependents(folder: Path) -> list[str]:
    """The names of runs beside it that its pinned checkpoints were taken by."""
    pins = {read_or_empty(pin).get("run") for pin in (folder / "checkpoints" / "pins").glob("*.json")}
    others = {read_or_empty(other / "metadata.json").get("id"): other.name for other in run_folders(folder.parent)}
    return sorted(others[pin] for pin in pins if pin in others)


def bring_back(name: str, root: Path) -> Path:
    """Undo the last `put_aside` of that name."""
    found = sorted((root / ".trash").glob(f"????????T??????Z-{name}"))
    if not found:
        raise UserError(f"{name}: not in {root / '.trash'}.")
    if (root / name).exists():
        raise UserError(f"{root / name} exists again. Put it aside first.")
    os.rename(found[-1], root / name)
    return root / name


def size_bytes(folder: Path) -> int:
    """All its files together."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
