"""Sizes and names of files: a file that wants more lines is two ideas; a name says what a file does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from ostinato.cli.checks.project import Finding, Project, matches

# The first pattern that fits decides, 0 is no limit. A project's own, in [tool.ostinato.lint.budgets], come before.
BUDGETS = {
    "*/tests/*": 0,
    "benchmarks/*": 0,
    "configs/*.yaml": 100,
    "scripts/*.py": 150,
    "*/losses/*.py": 60,
    "*/algorithms/*.py": 300,
    "*/models/*.py": 400,
    "*.py": 200,
}
VAGUE = re.compile(r"(.*_)?(utils?|helpers?|misc)|common|stuff|part_?\d+")


def budgets(project: Project) -> Iterator[Finding]:
    """Files longer than their budget."""
    own = project.settings.get("budgets", {})
    limits = {**own, **BUDGETS, **own}  # a project's own patterns come first, and its values hold
    for file in project.files:
        limit = next((limits[pattern] for pattern in limits if matches(file, [pattern])), 0)
        if limit and (lines := len(project.read(file).splitlines())) > limit:
            yield Finding(file, limit + 1, "line-budget", f"{lines} lines, the budget is {limit}. Split it by idea.")


def names(project: Project) -> Iterator[Finding]:
    """Python files and packages whose name says nothing."""
    seen = set()
    for file in project.files:
        parts = file.split("/")
        stems = [*parts[:-1], parts[-1].removesuffix(".py")]
        for depth, stem in enumerate(stems if file.endswith(".py") else [], start=1):
            path = "/".join(parts[:depth])
            if VAGUE.fullmatch(stem) and path not in seen:
                seen.add(path)
                yield Finding(path, 1, "vague-name", f"{stem!r} could hold anything. Name it for what it does.")


def syntax(project: Project) -> Iterator[Finding]:
    """Python files that cannot be parsed, about which no other rule says anything."""
    for file, tree in project.trees.items():
        if isinstance(tree, SyntaxError):
            yield Finding(file, tree.lineno or 1, "syntax", f"{tree.msg}. Python cannot read this file.")


def notebooks(project: Project) -> Iterator[Finding]:
    """Notebooks committed with their outputs."""
    for file in project.files:
        if not file.endswith(".ipynb"):
            continue
        text = project.read(file)
        try:
            cells = json.loads(text).get("cells", [])
        except (ValueError, AttributeError):
            yield Finding(file, 1, "notebook", "is no notebook: not valid JSON. Save it again.")
            continue
        full = [cell for cell in cells if cell.get("outputs") or cell.get("execution_count") is not None]
        if full:
            found = re.search(r'"outputs": *\[ *\n? *[^\]\s]|"execution_count": *\d', text)
            line = text[: found.start()].count("\n") + 1 if found else 1
            what = f"{len(full)} cell{'s' if len(full) > 1 else ''} with outputs"
            yield Finding(
                file, line, "notebook", f"{what}. Strip them: jupyter nbconvert --clear-output --inplace {file}"
            )
