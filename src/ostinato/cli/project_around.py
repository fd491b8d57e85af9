"""The project around a folder: where its pyproject.toml is, and which package it registers components in."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ostinato.core.catalog import ENTRY_POINTS
from ostinato.core.errors import UserError

RECORD = ".ostinato-template.yaml"  # what a project was made from
NEW = "`ostinato new project NAME --template T` makes one."


@dataclass(frozen=True)
class ProjectAround:
    """`root` holds pyproject.toml; `package` is the project's own, in the folder `source` below the root."""

    root: Path
    package: str
    source: str  # "src", or "." where the package lies beside pyproject.toml

    def place(self, path: str) -> str:
        """Where a template's file goes: what it has below src/ lies where this project has its package."""
        return path.removeprefix("src/") if self.source == "." else path

    @property
    def template(self) -> str | None:
        """The name of the template it was made from."""
        try:
            record = yaml.safe_load((self.root / RECORD).read_text("utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return None
        name = record.get("template") if isinstance(record, dict) else None
        return name if isinstance(name, str) else None


def project_around(folder: Path) -> ProjectAround:
    """The nearest project from a folder upwards. Raises UserError where there is none, or no package of its own."""
    found = (one for one in (folder, *folder.parents) if (one / "pyproject.toml").is_file())
    if (root := next(found, None)) is None:
        raise UserError(f"{folder}: no pyproject.toml here or above, so no project to write into. {NEW}")
    for name in [*_announced(_read(root / "pyproject.toml")), *_packages(root)]:
        for source in ("src", "."):
            if (root / source / name / "__init__.py").is_file():
                return ProjectAround(root, _own(root, name), source)
    raise UserError(f"{root}: no package of its own in src/ (a folder with __init__.py). {NEW}")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _announced(pyproject: dict[str, Any]) -> list[str]:
    """The plugins of its entry points; [] where the section is missing or something else."""
    section: Any = pyproject
    for key in ("project", "entry-points", ENTRY_POINTS):
        section = section.get(key, {}) if isinstance(section, dict) else {}
    values = section.values() if isinstance(section, dict) else []
    return [str(value).partition(":")[0].partition(".")[0] for value in values]


def _packages(root: Path) -> list[str]:
    found = [path.parent.name for source in ("src", ".") for path in sorted((root / source).glob("*/__init__.py"))]
    return [name for name in found if name not in ("tests", "scripts", "benchmarks")]


def _own(root: Path, name: str) -> str:
    if name == "ostinato":
        raise UserError(f"{root} is ostinato itself: a component of it is one file in src/ostinato (CONTRIBUTING.md).")
    return name
