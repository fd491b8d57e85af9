"""Config files that do not check: unknown keys, wrong types, bases that disagree. Nothing they name is imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ostinato.cli.checks.project import Finding, Project
from ostinato.core.config import load_config
from ostinato.core.mistakes import ConfigError


def configs(project: Project) -> Iterator[Finding]:
    """The mistakes of every `configs/**/*.yaml`; a base is a config too, so nothing needs to be complete."""
    found: dict[Finding, None] = {}  # a mistake in a shared base is met once per config that has it
    for file in project.files:
        if not (file.startswith("configs/") and file.endswith((".yaml", ".yml"))):
            continue
        with contextlib.chdir(project.root):  # plugins and shown paths are relative to the project
            try:
                load_config(file)
            except ConfigError as error:
                for mistake in error.mistakes:
                    place = mistake.place
                    key = f"{mistake.key}: " if mistake.key else ""
                    message = " ".join([key + mistake.message, *mistake.notes])
                    found[Finding(shown(place.file or file, project), place.line or 1, "config", message)] = None
    yield from found


def shown(file: str, project: Project) -> str:
    """A config shipped with ostinato is `ostinato:...`, but a plain path in ostinato's own repository."""
    if file.startswith("ostinato:") and (project.root / "src" / "ostinato" / "configs").is_dir():
        return "configs/" + file.removeprefix("ostinato:")
    return file
