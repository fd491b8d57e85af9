"""`ostinato runs diff`: what two runs do not share, and the first step at which that shows."""

from __future__ import annotations

from pathlib import Path

import click

from ostinato.cli.runs import JSON, ROOT, print_json


@click.command("diff")
@click.argument("a")
@click.argument("b")
@click.option("--code", is_flag=True, help="The patch between the two codes, too.")
@ROOT
@JSON
def command(a: str, b: str, code: bool, root: Path, as_json: bool) -> None:
    """Only what differs between two runs: config with origins, code, data, packages, hardware; then the rows."""
    from ostinato.cli.differences_text import differences_text
    from ostinato.experiment.differences import run_differences
    from ostinato.experiment.finding import find_run

    found = run_differences(find_run(a, root), find_run(b, root), patch=code)
    if as_json:
        print_json(found)
    else:
        click.echo(differences_text(found))
