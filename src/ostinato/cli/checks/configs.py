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
                    found[Finding(place.file or file, place.line or 1, "config", message)] = None
    yield from found
