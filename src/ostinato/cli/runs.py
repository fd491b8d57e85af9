"""`ostinato runs`: list, show, watch and verify run folders. Reads only; imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ostinato.cli.runs_text import COLUMNS, facts_text, table
from ostinato.cli.verbs import Verbs
from ostinato.core.errors import RefusedError, UserError

ROOT = click.option(
    "--root", default="experiments", show_default=True, type=click.Path(path_type=Path), help="Runs' folder."
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


# verb: (module with a click command called `command`, one line of help)
FURTHER: dict[str, tuple[str, str]] = {
    "export": ("ostinato.cli.runs_export", "send a run's rows to tensorboard, wandb or mlflow, afterwards"),
    "diff": ("ostinato.cli.runs_diff", "what two runs do not share, and where their rows part"),
    "reproduce": ("ostinato.cli.runs_reproduce", "run a run again, and say whether it came out the same"),
    "restore-code": ("ostinato.cli.runs_restore_code", "write a run's code into a folder, proved by its tree id"),
}


@click.group("runs", cls=Verbs, modules=FURTHER)
def command() -> None:
    """List, show, compare, report, repeat and verify runs."""


def print_json(value: Any) -> None:
    """One document; not-finite numbers as in the rows, "nan"."""
    from ostinato.experiment.metrics import encode

    click.echo(json.dumps(json.loads(encode({"value": value}))["value"], indent=1))


@command.command("list")
@ROOT
@JSON
@click.option("--where", metavar="E", help="Which: 'algorithm=sft and validation/loss<2'.")
@click.option("--sort", metavar="K", help="By any value; -K for largest first. Default: oldest first.")
@click.option("--columns", metavar="A,B", help="Which values: names as above, metrics, config keys.")
def list_runs(root: Path, as_json: bool, where: str | None, sort: str | None, columns: str | None) -> None:
    """One line per run: state, step, losses, age, duration."""
    from ostinato.experiment.listing import summaries
    from ostinato.experiment.selecting import lookup, matcher, sort_runs

    runs = summaries(root)
    if where:
        matches = matcher(where)
        runs = [run for run in runs if matches(run)]
    if sort:
        runs = sort_runs(runs, sort)
    chosen = [column.strip() for column in columns.split(",")] if columns else None
    for run in runs if chosen else ():
        run.update({column: lookup(run, column) for column in chosen or () if column not in run})
    if as_json:
        keep = ["name", *chosen] if chosen else None
        print_json([{k: v for k, v in run.items() if k in keep} if keep else run for run in runs])
    elif runs:
        click.echo(table(runs, chosen or COLUMNS))
    else:
        click.echo(f"no runs{' like that' if where else ''} in {root}")


@command.command("show")
@click.argument("run")
@ROOT
@JSON
def show(run: str, root: Path, as_json: bool) -> None:
    """One run on one screen, ending with what would stop a reproduction."""
    from ostinato.experiment.facts import run_facts
    from ostinato.experiment.finding import find_run

    facts = run_facts(find_run(run, root))
    if as_json:
        print_json(facts)
    else:
        click.echo(facts_text(facts))


@command.command("verify")
@click.argument("runs", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All runs below --root.")
@ROOT
@JSON
def verify(runs: tuple[str, ...], every: bool, root: Path, as_json: bool) -> None:
    """Check every hash of a run: config, records, rows, checkpoints, code. Exit code 3 if anything is damaged."""
    from ostinato.experiment.finding import find_run, run_folders
    from ostinato.experiment.verify import verify_run

    if bool(runs) == every:
        raise UserError("runs verify: name runs, or --all.")
    results: list[dict[str, Any]] = []
    for folder in run_folders(root) if every else [find_run(run, root) for run in runs]:
        problems = verify_run(folder)
        results.append({"run": folder.name, "intact": not problems, "problems": problems})
        if not as_json:
            click.echo(f"{folder.name}  {'intact' if not problems else 'damaged'}")
            for problem in problems:
                click.echo(f"  {problem['path']}: {problem['problem']}")
    damaged = [result["run"] for result in results if not result["intact"]]
    if as_json:
        print_json(results[0] if len(results) == 1 and not every else {"intact": not damaged, "runs": results})
        if damaged:
            click.get_current_context().exit(3)
    elif damaged:
        raise RefusedError(f"damaged: {', '.join(damaged)}")


@command.command("samples")
@click.argument("run")
@click.option("--step", metavar="N", help="Of which step; all: which steps there are. Default: the newest.")
@click.option("--limit", metavar="K", type=click.IntRange(min=0), help="How many; 0: all. Default: 10, as JSON all.")
@click.option("--sort", metavar="S", help="By score, advantage, tokens or a reward; -S for largest first.")
@ROOT
@JSON
def samples(run: str, step: str | None, limit: int | None, sort: str | None, root: Path, as_json: bool) -> None:
    """What a run sampled while it trained: responses with their rewards, or texts."""
    from ostinato.cli import runs_samples
    from ostinato.experiment.finding import find_run

    folder = find_run(run, root)
    kept = runs_samples.kept_steps(folder)
    if step == "all":
        steps = [{"step": one.step, "count": len(one.read()), "file": str(one.path)} for one in kept]
        lines = [f"step {one['step']:>6}  {one['count']:>4} samples  {one['file']}" for one in steps]
        return print_json({"run": folder.name, "steps": steps}) if as_json else click.echo("\n".join(lines))
    one = runs_samples.chosen_step(kept, step, folder.name)
    rows = one.read()
    rows = runs_samples.sorted_rows(rows, sort) if sort else rows
    shown = rows[: runs_samples.SHOWN if limit is None and not as_json else limit or len(rows)]
    if as_json:
        return print_json({"run": folder.name, "step": one.step, "count": len(rows), "samples": shown})
    click.echo(f"{folder.name}  step {one.step}  {len(shown)} of {len(rows)} samples")
    runs_samples.show(one, shown)


@command.command("watch")
@click.argument("run")
@ROOT
def watch(run: str, root: Path) -> None:
    """Rows and events as they come, until the run ends."""
    from ostinato.cli.runs_text import follow
    from ostinato.experiment.finding import find_run

    for line in follow(find_run(run, root)):
        click.echo(line)


@command.command("rm")
@click.argument("runs", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Only say what would be moved.")
@click.option("--force", is_flag=True, help="Also a run that others started from.")
@ROOT
@JSON
def remove(runs: tuple[str, ...], dry_run: bool, force: bool, root: Path, as_json: bool) -> None:
    """Put runs aside, into ROOT/.trash; `runs undo` brings them back."""
    from ostinato.experiment.finding import find_run
    from ostinato.experiment.trash import put_aside, size_bytes

    done = []
    for folder in [find_run(run, root) for run in runs]:
        size = size_bytes(folder)
        target = None if dry_run else put_aside(folder, force=force)
        done.append({"run": folder.name, "bytes": size, "moved_to": target and str(target)})
        if not as_json:
            where = "would be put aside" if dry_run else f"is in {target}; back with: ostinato runs undo {folder.name}"
            click.echo(f"{folder.name} ({size / 1e6:.1f} MB) {where}")
    if as_json:
        print_json(done)


@command.command("undo")
@click.argument("run")
@ROOT
def undo(run: str, root: Path) -> None:
    """Bring back a run that was put aside."""
    from ostinato.experiment.trash import bring_back

    click.echo(f"{bring_back(run, root)} is back")
