"""`ostinato new`: a project from a template, or a component with config and test in the project around."""

from __future__ import annotations

import click

from ostinato.cli.verbs import Verbs

KINDS = {
    "algorithm": "an algorithm of the project's own: code, config, test",
    "reward": "a reward: code, config, test",
    "dataset": "a dataset: code, config, test",
    "model": "a model: code, config, test",
    "experiment": "a config that says only what differs, and its test",
}
MODULES = {"project": ("ostinato.cli.new_project", "a project from a template")} | {
    kind: (f"ostinato.cli.new_component:{kind}", help) for kind, help in KINDS.items()
}


@click.group("new", cls=Verbs, modules=MODULES)
def command() -> None:
    """Start a project, or write a component into the project around the working directory."""
