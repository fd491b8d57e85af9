"""Names of runs, and what is said to the one whose name is taken."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ostinato.core.errors import UserError
from ostinato.experiment.reading import is_run, read_or_empty, state_of
from ostinato.experiment.secrets import masked_command

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(name: str) -> None:
    """Raise UserError for a name that a run may not have."""
    if not NAME.fullmatch(name) or name.endswith(".sweep"):
        raise UserError(
            f"{name!r} is no name for a run: up to 100 letters, digits, . _ -, beginning with a letter or digit, "
            "not ending in .sweep. Set experiment.name or --name."
        )


def made_up_names(config: Any) -> Iterator[str]:
    """`<algorithm>-<model>-<date>-<n>` for n = 1, 2, ..."""
    parts = (config.algorithm.name, config.model.name or "model", datetime.now(UTC).strftime("%Y%m%d"))
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(map(str, parts)))[:90]
    number = 1
    while True:
        yield f"{stem}-{number}"
        number += 1


def exists_message(folder: Path, command: Sequence[str]) -> str:
    """What the loser of a name is told: what is there, and three ways on."""
    name = folder.name
    if not is_run(folder):
        return f"{folder} exists and is no run folder. Choose another name: --name NAME or -o experiment.name=NAME."
    status = read_or_empty(folder / "status.json")
    start, named_there = _without_name(command)
    this_name = f" --name {name}" if named_there else ""
    free = next(f"{name}-{n}" for n in range(2, 1_000_000) if not (folder.parent / f"{name}-{n}").exists())
    root = "" if str(folder.parent) == "experiments" else f" --root {folder.parent}"
    return (
        f"{name} exists: {state_of(folder, status)}, step {status.get('step', 0)}, {ago(folder)} ({folder})\n"
        f"  continue it     {start} --resume{this_name}\n"
        f"  another name    {start} --name {free}\n"
        f"  put it aside    ostinato runs rm {name}{root}          (can be undone)"
    )


def _without_name(command: Sequence[str]) -> tuple[str, bool]:
    """The `train` command again, without what named the run and without --resume; and whether anything named it."""
    words = masked_command(command)
    words = words[words.index("train") + 1 :] if "train" in words else words[1:]
    kept: list[str] = []
    named, rest = False, iter(words)
    for word in rest:
        pair = [word, next(rest, "")] if word in ("-o", "--name") else [word]
        if word.startswith("--name") or pair[-1].startswith("experiment.name="):
            named = True
        elif word != "--resume":
            kept += pair
    return shlex.join(["ostinato", "train", *(kept or ["CONFIG"])]), named


def ago(folder: Path) -> str:
    """How long ago a run last gave a sign of life: `2 days ago`."""
    try:
        seconds = time.time() - (folder / "status.json").stat().st_mtime
    except OSError:
        return "at an unknown time"
    return f"{age(seconds)} ago"


def age(seconds: float) -> str:
    """A duration in its largest unit: `2 days`, `1 hour`, `0 seconds`."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{max(0, int(seconds))} seconds"
