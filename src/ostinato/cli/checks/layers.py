"""Who may import whom, read from the syntax tree: imports anywhere in a file, and `import_module` with a literal."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from ostinato.cli.checks.project import Finding, Module, Project

# Layer -> the layers it may import. One not named here is free; `*` is any; nobody may import `cli`. A project's own
# [tool.ostinato.lint.layers] replaces entries.
LAYERS: dict[str, list[str]] = {
    "core": [],
    "data": ["core"],
    "distributed": ["core"],
    "experiment": ["core"],
    "generation": ["core", "data"],
    "training": ["core", "data", "distributed", "generation"],
    "evaluation": ["core", "data", "generation"],
    "losses": ["core"],
    "models": ["core"],
    "rewards": ["core", "data"],
    "algorithms": ["core", "data", "training", "losses", "generation"],
    "cli": ["*"],
}


class Import(NamedTuple):
    """One import of one layer by a module of another, within a package."""

    module: Module
    line: int
    target: str  # the layer imported


def imports(project: Project) -> Iterator[Import]:
    """Every import that crosses from one layer of a package to another."""
    layers = {(module.package, module.layer) for module in project.modules}
    for module in project.modules:
        tree = project.trees[module.file]
        if module.layer is None or isinstance(tree, SyntaxError):
            continue
        for name, line in imported_names(tree, module):
            package, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            if package == module.package and target != module.layer and (package, target) in layers:
                yield Import(module, line, target)


def imported_names(tree: ast.Module, module: Module) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of everything a module imports; relative imports are made absolute."""
    home = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = home[: len(home) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value, node.lineno


def layers(project: Project) -> Iterator[Finding]:
    """Imports of a layer that the importing one may not know."""
    allowed = LAYERS | project.settings.get("layers", {})
    for module, line, target in imports(project):
        known = allowed.get(module.layer or "", ["*"])
        if target in known or ("*" in known and (target != "cli" or module.layer == "cli")):
            continue
        may = (
            f"may import {', '.join(known) if known else 'no other layer'}"
            if "*" not in known
            else "may not import cli"
        )
        remedy = "Pass the object in, or reach it by name through a registry."
        yield Finding(module.file, line, "layer", f"{module.layer} imports {target}, but {may}. {remedy}")


def two_way(project: Project) -> Iterator[Finding]:
    """Pairs of layers that import each other."""
    first: dict[tuple[str, str, str], Import] = {}
    for found in imports(project):
        first.setdefault((found.module.package, found.module.layer or "", found.target), found)
    for (package, layer, target), found in first.items():
        back = first.get((package, target, layer))
        if back and layer < target:
            other = f"{back.module.file}:{back.line}"
            message = (
                f"{layer} imports {target} and {target} imports {layer} ({other}). Let one of them know the other."
            )
            yield Finding(found.module.file, found.line, "two-way-import", message)
