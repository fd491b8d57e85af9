"""`ostinato runs restore-code`: the code that a run was made of, byte for byte, in a folder."""

from __future__ import annotations

from pathlib import Path

import click

from ostinato.cli.runs import JSON, ROOT, print_json


@click.command("restore-code")
@click.argument("run")
@click.option("--to", "target", required=True, type=click.Path(path_type=Path), help="A new or an empty folder.")
@click.option("--role", default="project", show_default=True, help="Whose: project, ostinato, plugin:NAME.")
@ROOT
@JSON
def command(run: str, target: Path, role: str, root: Path, as_json: bool) -> None:
    """Write a run's code into a folder, links and executable bits kept, and prove it by its tree id."""
    from ostinato.experiment.finding import find_run
    from ostinato.experiment.restore import record_of, restore

    folder = find_run(run, root)
    done = restore(folder, record_of(folder, role), target)
    if as_json:
        print_json({"run": folder.name, "role": role, "tree": done.tree, "files": done.files, "folder": str(target)})
    else:
        click.echo(f"tree {done.tree}: {done.files} files in {target}")
