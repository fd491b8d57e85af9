"""Which components there are, found in the source text of ostinato and of plugins without importing any."""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ostinato.core.signatures import BadSignature, Option, read_signature

PACKAGE = Path(__file__).resolve().parent.parent
ENTRY_POINTS = "ostinato.plugins"


@dataclass(frozen=True)
class Found:
    """A component as its source text says: where it is registered, its docstring and its options."""

    kind: str
    name: str
    path: Path
    line: int
    module: str
    doc: str
    options: dict[str, Option]
    plugin: str | None = None  # None: ostinato's own
    problem: BadSignature | None = None

    @property
    def origin(self) -> str:
        """`file:line`, as shown."""
        return f"{shown(self.path)}:{self.line}"


def shown(path: Path) -> str:
    """A file as messages show it: short for ostinato's own, relative below the working directory, else absolute."""
    path = Path(os.path.realpath(path))
    configs = Path(os.path.realpath(PACKAGE / "configs"))
    if path.is_relative_to(configs):
        return f"ostinato:{path.relative_to(configs).as_posix()}"
    if path.is_relative_to(PACKAGE):
        return f"ostinato/{path.relative_to(PACKAGE).as_posix()}"
    here = Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.as_posix()


@functools.lru_cache(None)
def scan(path: Path, module: str, plugin: str | None = None) -> tuple[Found, ...]:
    """The components registered at the top level of a file."""
    try:
        text = path.read_text("utf-8", "replace")
        body = ast.parse(text).body if ".register(" in text else []
    except (SyntaxError, ValueError, OSError):
        return ()  # importing it tells what is wrong; here it registers nothing
    found = []
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found += [
                _found(node, kind, name, line, path, module, plugin)
                for decorator in node.decorator_list
                for kind, name, line in _registration(decorator)
            ]
    return tuple(found)


def _registration(decorator: ast.expr) -> Iterator[tuple[str, str, int]]:
    match decorator:
        case ast.Call(
            func=ast.Attribute(value=ast.Name(id=kind) | ast.Attribute(attr=kind), attr="register"),
            args=[ast.Constant(value=str(name))],
        ) if kind.isupper():
            yield kind, name, decorator.lineno


def _found(node: ast.stmt, kind: str, name: str, line: int, path: Path, module: str, plugin: str | None) -> Found:
    assert isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    options, problem = {}, None
    try:
        options = read_signature(node)
    except BadSignature as error:
        problem = error
    return Found(kind, name, path, line, module, ast.get_docstring(node) or "", options, plugin, problem)


def home_files(home: str) -> Iterator[tuple[Path, str]]:
    """The files (and their modules) of ostinato's own components of one kind: a folder, or one module."""
    path = PACKAGE / home
    if path.suffix == ".py":
        if path.exists():
            yield path, "ostinato." + home.removesuffix(".py").replace("/", ".")
        return
    for file in sorted(path.glob("*.py")):
        yield file, f"ostinato.{home.replace('/', '.')}.{file.stem}"


class NoPlugin(Exception):
    """A plugin that is no top-level module or cannot be found."""


@functools.lru_cache(None)
def plugin_files(name: str) -> tuple[tuple[Path, str], ...]:
    """All files of a plugin and their modules: from the environment, last from the working directory."""
    if not name.isidentifier():
        raise NoPlugin("a plugin is the name of a top-level module or package")
    spec = importlib.util.find_spec(name) if name not in sys.modules else sys.modules[name].__spec__
    spec = spec or importlib.machinery.PathFinder.find_spec(name, [os.getcwd()])
    if spec is None:
        raise NoPlugin("no such module or package, neither installed nor in the working directory")
    if not spec.submodule_search_locations:
        return ((Path(spec.origin or ""), name),) if (spec.origin or "").endswith(".py") else ()
    files = []
    for folder in map(Path, spec.submodule_search_locations):
        for file in sorted(folder.rglob("*.py")):
            parts = (name, *file.relative_to(folder).with_suffix("").parts)
            files.append((file, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)))
    return tuple(files)


@functools.lru_cache(None)
def entry_point_plugins() -> tuple[str, ...]:
    """The plugins that installed packages announce, by top-level module."""
    if not any(map(_announces, sys.path)):
        return ()  # the usual case, without the cost of importing importlib.metadata
    from importlib.metadata import entry_points

    return tuple(sorted({point.value.split(":")[0].split(".")[0] for point in entry_points(group=ENTRY_POINTS)}))


def _announces(folder: str) -> bool:
    found = (file for kind in ("dist", "egg") for file in Path(folder or ".").glob(f"*.{kind}-info/entry_points.txt"))
    return any(f"[{ENTRY_POINTS}]" in file.read_text("utf-8", "replace") for file in found)


class Catalog:
    """The components of ostinato (`homes`: kind -> folder or module) and of some plugins."""

    def __init__(self, homes: dict[str, str], plugins: tuple[str, ...] = ()) -> None:
        self.homes, self.plugins = homes, plugins

    def find(self, kind: str, name: str) -> list[Found]:
        """All that bear the name: normally one; entry points are asked only if there is none before."""
        word = re.compile(rf"\b{kind}\.register\(\s*[\"']{re.escape(name)}[\"']")
        found = self._matching(kind, name, word, [*self._own(kind), *self._of_plugins(self.plugins)])
        return found or self._matching(kind, name, word, self._of_plugins(self._announced()))

    def all(self, kind: str) -> list[Found]:
        """Every component of a kind, sorted by name."""
        files = [*self._own(kind), *self._of_plugins(self.plugins), *self._of_plugins(self._announced())]
        found = [item for file in files for item in scan(*file) if item.kind == kind]
        return sorted(found, key=lambda item: (item.name, item.plugin or "", str(item.path)))

    def names(self, kind: str) -> list[str]:
        """Every name of a kind."""
        return sorted({item.name for item in self.all(kind)})

    def _announced(self) -> tuple[str, ...]:
        return tuple(name for name in entry_point_plugins() if name not in self.plugins)

    def _own(self, kind: str) -> list[tuple[Path, str, str | None]]:
        return [(path, module, None) for path, module in home_files(self.homes[kind])]

    def _of_plugins(self, names: tuple[str, ...]) -> list[tuple[Path, str, str | None]]:
        files: list[tuple[Path, str, str | None]] = []
        for name in names:
            try:
                files += [(path, module, name) for path, module in plugin_files(name)]
            except NoPlugin:
                continue  # `check` says so
        return files

    @staticmethod
    def _matching(
        kind: str, name: str, word: re.Pattern[str], files: list[tuple[Path, str, str | None]]
    ) -> list[Found]:
        found = []
        for path, module, plugin in files:
            try:
                text = path.read_text("utf-8", "replace")
            except OSError:
                continue
            if word.search(text):
                found += [item for item in scan(path, module, plugin) if (item.kind, item.name) == (kind, name)]
        return found
