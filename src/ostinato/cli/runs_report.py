"""`ostinato runs report`: runs as one HTML file."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ostinato.cli.runs import JSON, ROOT, print_json


@click.command("report")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "-o",
    "output",
    type=click.Path(path_type=Path),
    help="The file. Default: RUN/outputs/report.html; of several runs ROOT/report.html.",
)
@ROOT
@JSON
def command(runs: tuple[str, ...], output: Path | None, root: Path, as_json: bool) -> None:
    """One HTML file with curves, evaluations, options, samples and facts of runs; it needs no network."""
    from ostinato.experiment.finding import find_run
    from ostinato.experiment.report import write_report

    folders = list(dict.fromkeys(Path(os.path.abspath(find_run(run, root))) for run in runs))
    path = write_report(folders, output, root)
    if as_json:
        print_json({"report": str(path), "bytes": path.stat().st_size, "runs": [folder.name for folder in folders]})
    else:
        click.echo(f"{path}  ({path.stat().st_size / 1e3:.0f} kB)")
