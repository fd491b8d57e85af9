"""The project under `ostinato lint`: its settings in pyproject.toml, its files, its packages, and what a finding is."""

from __future__ import annotations

import ast
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ostinato.core.errors import UserError

NEVER_ENTERED = {"__pycache__", "node_modules", "build", "dist", "experiments/"}  # with a slash: at the top only
SETTINGS = {"budgets": dict, "layers": dict, "exclude": list, "global_random_state": list}
ELEMENTS = {"budgets": int, "layers": list, "exclude": str, "global_random_state": str}


class Finding(NamedTuple):
    """One thing to mend: where, which rule, what is wrong and the remedy."""

    file: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.message}"


@dataclass(frozen=True)
class Module:
    """A Python file inside one of the project's packages."""

    file: str
    package: str  # the top-level package it belongs to, e.g. "ostinato"
    name: str  # dotted, e.g. "ostinato.core.config"; a package is named without "__init__"
    is_package: bool

    @property
    def layer(self) -> str | None:
        """The folder below the top-level package, None for what lies directly in it."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > (1 if self.is_package else 2) else None


@dataclass
class Project:
    """A folder with a pyproject.toml or without. Paths are relative to it, with forward slashes."""

    root: Path
    settings: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def open(root: Path) -> Project:
        """Raises UserError when there is no such folder or `[tool.ostinato.lint]` cannot be understood."""
        if not root.is_dir():
            raise UserError(f"{root}: no such folder. Name the folder of a project.")
        path = root / "pyproject.toml"
        if not path.is_file():
            return Project(root)
        try:
            settings = tomllib.loads(path.read_text("utf-8")).get("tool", {}).get("ostinato", {}).get("lint", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be parsed: {error}") from None
        for name, value in settings.items():
            if name not in SETTINGS:
                raise UserError(f"{path}: [tool.ostinato.lint] {name}: unknown. Known: {', '.join(SETTINGS)}.")
            if not isinstance(value, SETTINGS[name]):
                raise UserError(f"{path}: [tool.ostinato.lint] {name}: expected a {SETTINGS[name].__name__}.")
            element, elements = ELEMENTS[name], value.values() if isinstance(value, dict) else value
            if wrong := [entry for entry in elements if type(entry) is not element]:
                wanted = f"{element.__name__}, got {wrong[0]!r}"
                raise UserError(f"{path}: [tool.ostinato.lint] {name}: expected {wanted}.")
        return Project(root, settings)

    @cached_property
    def files(self) -> list[str]:
        """Every file that lint looks at, sorted."""
        return sorted(self._walk())

    def _walk(self) -> Iterator[str]:
        for folder, folders, files in os.walk(self.root):
            base = Path(folder).relative_to(self.root).as_posix()
            prefix = "" if base == "." else f"{base}/"
            folders[:] = [name for name in folders if self._entered(prefix, name)]
            yield from (prefix + name for name in files if not matches(prefix + name, self.settings.get("exclude", [])))

    def _entered(self, prefix: str, name: str) -> bool:
        if name.startswith(".") or name.endswith(".egg-info") or name in NEVER_ENTERED:
            return False
        at_top_only = not prefix and f"{name}/" in NEVER_ENTERED
        return not at_top_only and not (self.root / prefix / name / "pyvenv.cfg").exists()

    def read(self, file: str) -> str:
        """The text of a file; bytes that are no UTF-8 are replaced."""
        return (self.root / file).read_text("utf-8", errors="replace")

    @cached_property
    def modules(self) -> list[Module]:
        """The Python files of the project's packages: folders with `__init__.py`, all the way up, but no tests."""
        present = set(self.files)
        modules = []
        for file in self.files:
            parts = file.split("/")
            if not file.endswith(".py") or "tests" in parts:
                continue
            first = len(parts) - 1
            while first and "/".join([*parts[:first], "__init__.py"]) in present:
                first -= 1
            dotted = [*parts[first:-1], parts[-1].removesuffix(".py")]
            if len(dotted) > 1:
                is_package = dotted[-1] == "__init__"
                name = ".".join(dotted[:-1] if is_package else dotted)
                modules.append(Module(file, dotted[0], name, is_package))
        return modules

    @cached_property
    def trees(self) -> dict[str, ast.Module | SyntaxError]:
        """The syntax tree of every Python file."""
        trees: dict[str, ast.Module | SyntaxError] = {}
        for file in self.files:
            if file.endswith(".py"):
                try:
                    trees[file] = ast.parse(self.read(file))
                except (SyntaxError, ValueError) as error:
                    trees[file] = error if isinstance(error, SyntaxError) else SyntaxError(str(error))
        return trees


def matches(file: str, patterns: list[str]) -> bool:
    """Whether a path fits one of the patterns; `*` crosses folders, and a pattern not opening with it is anchored."""
    return any(fnmatchcase(f"/{file}", pattern if pattern.startswith("*") else f"/{pattern}") for pattern in patterns)
