"""What is visibly wrong below a root, found without hashing any content: damaged records, runs that nobody works on,
and what killed processes left lying about. Changes nothing; `verify` is the thorough check of one run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ostinato.core.errors import OstinatoError
from ostinato.core.manifest import Damaged, NewerFormat, read_checkpoint
from ostinato.experiment.claims import disk_now
from ostinato.experiment.finding import run_folders
from ostinato.experiment.imported import is_imported
from ostinato.experiment.reading import read_json, state_of
from ostinato.experiment.verify import CHECKPOINT, Problem, json_files

LEFTOVERS_OF_A_RUN = ("checkpoints/.tmp-*", "checkpoints/.trash-*", "provenance/.segment-*", ".*.tmp", ".clock-*")
LEFTOVERS_OF_A_ROOT = (".new-*", ".clock-*", ".doctor-*")
LIVE = ("created", "running")
MAY_LIVE = (*LIVE, "unknown")


def visible_problems(folder: Path) -> list[Problem]:
    """[{path, problem}] of a run: its JSON files, the config's hash as written, checkpoints' manifests and sizes."""
    found: list[Problem] = []
    try:
        for part in (json_files, _config, _checkpoints):
            for path, problem in part(folder):
                found.append({"path": path, "problem": problem})
    except OstinatoError as error:  # a newer format: the file was named before it was needed
        found = found or [{"path": ".", "problem": str(error)}]
    return found


def _config(folder: Path) -> Iterator[tuple[str, str]]:
    try:
        with open(folder / "config.yaml", encoding="utf-8") as file:
            own = file.readline().strip().removeprefix("_hash_: ")
    except FileNotFoundError:
        if not is_imported(folder):
            yield "config.yaml", "is missing"
        return
    except (OSError, ValueError) as error:
        yield "config.yaml", f"cannot be read: {error}"
        return
    try:
        hashes = read_json(folder / "metadata.json").get("hashes")
    except (OSError, ValueError, OstinatoError):
        return  # said already, of that file
    recorded = hashes.get("full") if isinstance(hashes, dict) else None
    if recorded is not None and own != recorded:
        yield "config.yaml", f"its own first line says {own}, but metadata.json says {recorded}"


def _checkpoints(folder: Path) -> Iterator[tuple[str, str]]:
    for checkpoint in sorted((folder / "checkpoints").glob("step_*")):
        if not CHECKPOINT.fullmatch(checkpoint.name):
            continue
        try:
            for name, entry in read_checkpoint(checkpoint)["files"].items():
                if (size := (checkpoint / name).stat().st_size) != entry["bytes"]:
                    yield f"checkpoints/{checkpoint.name}/{name}", f"has {size} bytes instead of {entry['bytes']}"
        except (Damaged, NewerFormat, OSError, KeyError, TypeError, AttributeError) as error:
            if checkpoint.is_dir():  # else its run has just retired it
                yield f"checkpoints/{checkpoint.name}", str(error)


def half_runs(root: Path) -> list[Path]:
    """Folders that hold a frozen config but lack what makes a run: no verb of `runs` sees them."""
    whole = {folder.name for folder in run_folders(root)}
    try:
        with os.scandir(root) as entries:
            names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith(".") and e.name not in whole)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [root / name for name in names if (root / name / "config.yaml").is_file() and _looks_like_a_run(root / name)]


def _looks_like_a_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("provenance", "checkpoints", "status.json", "metadata.json"))


def leftovers(root: Path, states: dict[str, str], older_than_seconds: float) -> list[Path]:
    """Temporary files and folders that no living run can be at, as old as said by the disk's own newest time."""
    found = [path for pattern in LEFTOVERS_OF_A_ROOT for path in root.glob(pattern)]
    for name, state in states.items():
        if state not in MAY_LIVE:
            found += [path for pattern in LEFTOVERS_OF_A_RUN for path in (root / name).glob(pattern)]
    return aged(found, root, older_than_seconds)


def aged(paths: list[Path], folder: Path, seconds: float) -> list[Path]:
    """Those last written so many seconds ago or more, sorted; the present is that of the folder's disk."""
    now = disk_now(folder) if paths else 0.0
    kept = []
    for path in sorted(paths):
        try:
            kept += [path] if now - path.lstat().st_mtime >= seconds else []
        except OSError:  # gone meanwhile
            continue
    return kept


def states_of(root: Path) -> dict[str, str]:
    """The state of every run below a root, by name; `unknown` of one that a newer ostinato wrote."""
    states = {}
    for folder in run_folders(root):
        try:
            states[folder.name] = state_of(folder, clock_folder=root)
        except OstinatoError:
            states[folder.name] = "unknown"
    return states
