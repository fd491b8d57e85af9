"""`ostinato sweep`: many runs of one config, by a grid, random draws or optuna; started again, it goes on."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ostinato.cli.runs import JSON, print_json
from ostinato.core.errors import OstinatoError, Stopped, UserError
from ostinato.core.stopping import StopFlag

if TYPE_CHECKING:
    from ostinato.experiment.search_space import Parameters
    from ostinato.experiment.sweep_folder import SweepFolder


@click.command("sweep")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at a time.")
@click.option("--slurm", is_flag=True, help="Write an array job and submit it with sbatch.")
@click.option("--dry-run", is_flag=True, help="Check all and say what would run.")
@click.option(
    "--retries", type=click.IntRange(min=0), default=1, show_default=True, help="How often a failed run is tried again."
)
@JSON
def command(file: Path, jobs: int, slurm: bool, dry_run: bool, retries: int, as_json: bool) -> None:
    """Run a config with many parameters. All runs are checked before the first starts; they run the code of the
    moment the sweep was first started. Started again it goes on: what is completed is not repeated."""
    from ostinato.cli.sweep_jobs import Jobs
    from ostinato.cli.sweep_plan import Plan, points_of
    from ostinato.cli.sweep_table import document, report, table, what_next
    from ostinato.experiment.sweep_file import read_sweep
    from ostinato.experiment.sweep_folder import SweepFolder

    def say(text: str) -> None:
        click.echo(text, err=True)

    sweep = read_sweep(file)
    if slurm and sweep.method == "optuna":
        raise UserError("sweep: optuna learns from what has ended and cannot be submitted at once. Leave out --slurm.")
    points = points_of(sweep)
    here = SweepFolder.here(sweep)
    if dry_run:
        return show_plan(here, points, as_json)
    if not here.path.exists():
        here.resolve(points)  # a mistake ends it here, with nothing written
    folder = SweepFolder.open(sweep)
    trials = folder.trials()
    try:
        try:
            children = folder.resolve(points)
        except OstinatoError:
            if not trials.all:  # nothing was ever run: the next start is the first
                shutil.rmtree(folder.path)
            raise
        folder.keep_file()
        plan = Plan(folder, trials, retries, say)
        plan.begin(points, children)
        say(f"{folder.path}: {len(trials.all)} trials, {len(plan.queue)} to run")
        if slurm:
            from ostinato.cli.sweep_slurm import submit

            submitted = submit(folder, plan.queue, jobs, say)
            return print_json(submitted) if as_json else None
        stop = StopFlag().install()
        Jobs(folder, jobs, stop).run(plan.following, plan.ended)
    finally:
        trials.close()
    found = document(sweep, folder.path, trials.all)
    found["report"] = (written := report(found)) and str(written)
    if as_json:
        print_json(found)
    else:
        click.echo(table(found))
        click.echo(what_next(found))
    if stop.number:
        name = signal.Signals(stop.number).name
        raise Stopped(f"stopped by {name}: the runs are saved.\n  continue it     ostinato sweep {file}")
    bad = [trial["name"] for trial in found["trials"] if trial["state"] != "completed" and trial["name"] in plan.asked]
    if bad:
        raise OstinatoError(f"not completed: {', '.join(bad)}. Their output is in {folder.path / 'logs'}.")


def show_plan(folder: SweepFolder, points: list[Parameters], as_json: bool) -> None:
    """What would run: each run's name, parameters and state. Nothing is written."""
    from ostinato.cli.sweep_plan import unique
    from ostinato.cli.sweep_table import document, table
    from ostinato.experiment.trials import Trial, first_of_each, read_trials

    known = first_of_each(read_trials(folder.path / "trials.jsonl"))
    trials, number = list(known.values()), len(known)
    children = unique(points, folder.resolve(points))
    for point, child in children if folder.sweep.method != "optuna" else ():
        if child["name"] not in known:
            trials.append(Trial(number, child["name"], child["science"], point))
            number += 1
    found = document(folder.sweep, folder.path, trials)
    click.echo(table(found)) if not as_json else print_json(found)
