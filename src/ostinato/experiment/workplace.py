"""Where a rerun works: the recorded code, restored into a private folder, as it lay when the run began.

Each root is written below a copy of its own path, and the rerun starts in the copy of the recorded working directory,
so that relative paths of the config mean what they meant. What they name and the snapshot does not hold (ignored data)
is linked from where it was; the data's fingerprints decide whether it is still the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError
from ostinato.core.manifest import hash_file
from ostinato.experiment.restore import code_records, restore
from ostinato.experiment.secrets import leaves


@dataclass
class Workplace:
    """The rerun's working directory, its PYTHONPATH, the trees that were restored, and what was not captured."""

    folder: Path
    python_path: list[str]
    trees: dict[str, str] = field(default_factory=dict)
    not_captured: list[str] = field(default_factory=list)


def code_here() -> Workplace:
    """The code as it is now: this process's own working directory and path."""
    return Workplace(Path.cwd(), _python_path())


def recorded_code(run: Path, config: Mapping[str, Any], cwd: Path, base: Path) -> Workplace:
    """Restore all code of a run below `base`; RefusedError if any was not captured or does not restore."""
    records, homes = code_records(run), {}
    if not records:
        raise RefusedError(f"{run.name}: its code was not captured. --current-code runs it with the code that is here.")
    for number, record in enumerate(records):
        if "problem" in record:
            raise RefusedError(f"{run.name}: the code of {record['role']} was not captured: {record['problem']}.")
        if "tree" in record:
            root = Path(record["root"])
            homes[root] = _below(base / str(number), root)
            restore(run, record, homes[root])
    place = Workplace(_mapped(cwd, homes) or _below(base / "cwd", cwd), [])
    place.folder.mkdir(parents=True, exist_ok=True)
    place.trees = {record["role"]: record["tree"] for record in records if "tree" in record}
    for record in records:
        for skipped in record.get("skipped", []):
            _link_same(Path(record["root"]), homes[Path(record["root"])], skipped, place)
    link_data(config, cwd, place.folder, base)
    for home in homes.values():  # its parent: a plug-in's root may be the package itself
        place.python_path += [str(folder) for folder in (home / "src", home, home.parent) if folder.is_dir()]
    place.python_path += [str(_mapped(Path(entry), homes) or entry) for entry in _python_path()]
    return place


def link_data(config: Mapping[str, Any], cwd: Path, folder: Path, base: Path) -> None:
    """Link what the config names by a relative path and `folder` does not have, from the recorded `cwd`."""
    for key, value in leaves(config):
        if not isinstance(value, str) or not value or os.path.isabs(value) or key.endswith(".name"):
            continue
        original, target = cwd / value, Path(os.path.normpath(folder / value))
        if os.path.exists(original) and target != folder and target.is_relative_to(base):
            _link(original, target)


def _link(original: Path, target: Path) -> None:
    """A link to a file or folder; into a folder that is there already, to each file that it lacks."""
    if not os.path.lexists(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(original.absolute())
    elif original.is_dir() and target.is_dir() and not target.is_symlink():
        for file in original.rglob("*"):
            if file.is_file():
                _link(file, target / file.relative_to(original))


def _link_same(root: Path, home: Path, skipped: Mapping[str, Any], place: Workplace) -> None:
    """A file that was left out of the snapshot, if it is still there as it was."""
    original = root / skipped["path"]
    if original.is_file() and skipped.get("xxh3") == hash_file(original):
        _link(original, home / skipped["path"])
    else:
        place.not_captured.append(f"{skipped['path']} ({skipped['reason']})")


def _below(base: Path, path: Path) -> Path:
    return base.joinpath(*path.parts[1:])


def _mapped(path: Path, homes: Mapping[Path, Path]) -> Path | None:
    """The restored place of a path below one of the roots."""
    path = path.absolute()
    return next((home / path.relative_to(root) for root, home in homes.items() if path.is_relative_to(root)), None)


def _python_path() -> list[str]:
    return [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
