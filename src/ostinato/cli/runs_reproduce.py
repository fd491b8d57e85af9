"""`ostinato runs reproduce`: check, run again with the recorded code, compare, and say what came of it."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

import click

from ostinato.cli.runs import JSON, ROOT, print_json


@click.command("reproduce")
@click.argument("run")
@click.option("--steps", metavar="N", type=click.IntRange(min=1), help="Only so far; the schedule stays the run's.")
@click.option("--from-checkpoint", "begin", metavar="K", type=click.IntRange(min=1), help="Begin at its step K.")
@click.option("--require", type=click.Choice(["bitwise", "tolerance", "statistical"]), help="Else exit code 4.")
@click.option("--allow-environment-drift", "allow_drift", is_flag=True, help="Other packages or hardware: go on.")
@click.option("--current-code", is_flag=True, help="With the code that is here instead of the recorded one.")
@click.option("--full", is_flag=True, help="Go on after the rows have parted.")
@click.option("--rtol", default=1e-3, show_default=True, help="Of WITHIN TOLERANCE, relative.")
@click.option("--atol", default=1e-5, show_default=True, help="The same, absolute.")
@click.option("-o", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one value (repeatable).")
@ROOT
@JSON
def command(
    run: str,
    steps: int | None,
    begin: int | None,
    require: str | None,
    allow_drift: bool,
    current_code: bool,
    full: bool,
    rtol: float,
    atol: float,
    overrides: tuple[str, ...],
    root: Path,
    as_json: bool,
) -> None:
    """Run RUN again and compare: BITWISE, WITHIN TOLERANCE, STATISTICAL, or DIVERGED with the likely causes.

    Exit code 0 if the verdict is what is required (bitwise, where the numerics promise it), else 4.
    """
    from ostinato.cli.reproducing import Request, reproduce
    from ostinato.cli.reproduction_report import report_text
    from ostinato.experiment.finding import find_run
    from ostinato.experiment.row_differences import Tolerance

    def say(text: str) -> None:
        print(text, file=sys.stderr if as_json else sys.stdout, flush=True)

    request = Request(
        run=find_run(run, root).absolute(),
        steps=steps,
        begin=begin or 0,
        require=require,
        allow_drift=allow_drift,
        current_code=current_code,
        full=full or require == "statistical",
        tolerance=Tolerance(rtol, atol),
        overrides=overrides,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the rerun, too
    with tempfile.TemporaryDirectory(prefix="ostinato-rerun-", ignore_cleanup_errors=True) as scratch:
        report = reproduce(request, Path(scratch).resolve(), say)
    if as_json:
        print_json(report)
    else:
        click.echo(report_text(report))
    click.get_current_context().exit(0 if report["met"] else 4)
