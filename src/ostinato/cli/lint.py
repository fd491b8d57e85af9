"""`ostinato lint [PATH]`: the house rules, for this repository and for any project built on it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from ostinato.cli.checks.configs import configs
from ostinato.cli.checks.files import budgets, names, notebooks, syntax
from ostinato.cli.checks.layers import layers, two_way
from ostinato.cli.checks.project import Finding, Project
from ostinato.cli.checks.randomness import randomness

RULES: list[Callable[[Project], Iterator[Finding]]] = [
    *(syntax, budgets, names, layers, two_way, randomness, notebooks, configs),
]


def lint(root: Path) -> list[Finding]:
    """Everything the rules find in a project, by file and line. Raises UserError if its settings are wrong."""
    project = Project.open(root)
    return sorted(finding for rule in RULES for finding in rule(project))


@click.command("lint")
@click.argument("path", type=click.Path(path_type=Path), default=Path("."))
def command(path: Path) -> None:
    """Check line budgets, layers, two-way imports, names, random state, notebooks and configs of a project.

    Prints `file:line: rule: what and remedy`, exit code 1 if there is anything. Budgets, layers and exceptions are set
    in pyproject.toml, section [tool.ostinato.lint].
    """
    findings = lint(path)
    for finding in findings:
        click.echo(finding._replace(file=(path / finding.file).as_posix()))
    if findings:
        files = len({finding.file for finding in findings})
        click.echo(f"{len(findings)} findings in {files} files.", err=True)
        sys.exit(1)
    click.echo("Nothing to mend.")
