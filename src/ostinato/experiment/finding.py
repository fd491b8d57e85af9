"""Runs by name: their folders below a root, the nearest names of one that is not there."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from ostinato.core.errors import UserError
from ostinato.experiment.reading import is_run


def run_folders(root: Path) -> list[Path]:
    """The run folders directly below a root, by name; what begins with a dot is being made or thrown away."""
    try:
        with os.scandir(root) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    exists = os.path.exists  # is_run's rule, for thousands
    found = [n for n in sorted(names) if exists(f"{root}/{n}/metadata.json") and exists(f"{root}/{n}/provenance")]
    return [root / name for name in found]


def find_run(name: str, root: Path) -> Path:
    """The folder of a run given by name or path; raises UserError with the nearest names."""
    for folder in (root / name, Path(name)):
        if is_run(folder):
            return folder
    known = [folder.name for folder in run_folders(root)]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        hint = f"Did you mean {' or '.join(near)}?"
    elif known:
        hint = f"Runs there: {', '.join(known[-5:])}{' ...' if len(known) > 5 else ''}."
    else:
        hint = "There are no runs there; --root DIR looks elsewhere."
    raise UserError(f"{name}: no run of this name in {root}. {hint}")
