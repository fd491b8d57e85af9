"""`ostinato checkpoint ls|verify|diff RUN[@step]`: what a run has saved. Reads only; imports no torch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ostinato.cli.runs import JSON, ROOT, print_json
from ostinato.cli.runs_text import value_text
from ostinato.core.errors import RefusedError

SHOWN = 20


@click.group("checkpoint")
def command() -> None:
    """List, verify and compare checkpoints. RUN is a name below --root or a folder; RUN@100 is one checkpoint."""


@command.command("ls")
@click.argument("target", metavar="RUN[@step]")
@ROOT
@JSON
def list_checkpoints(target: str, root: Path, as_json: bool) -> None:
    """Steps, sizes, when saved, which runs pin them, signs of damage (`verify` reads every byte)."""
    from ostinato.cli.compare_text import aligned
    from ostinato.experiment.checkpoints import find_checkpoint, listed

    run, chosen = find_checkpoint(target, root)
    entries = [entry for entry in listed(run) if chosen is None or entry["name"] == chosen.name]
    if as_json:
        return print_json({"run": run.name, "checkpoints": entries})
    if not entries:
        return click.echo(f"{run.name} has no checkpoint yet")
    click.echo(aligned([["checkpoint", "size", "saved", "pinned by", "problem"], *map(cells, entries)]))


def cells(entry: dict[str, Any]) -> list[str]:
    """One checkpoint as text."""
    size = "" if entry["bytes"] is None else f"{entry['bytes'] / 1024**2:.1f} MiB"
    pins = ", ".join(pin["run"] or f"{pin['id']} (not here)" for pin in entry["pinned_by"])
    return [entry["name"], size, entry["created"] or "", pins, entry["problem"] or ""]


@command.command("verify")
@click.argument("targets", metavar="RUN[@step]...", nargs=-1, required=True)
@ROOT
@JSON
def verify(targets: tuple[str, ...], root: Path, as_json: bool) -> None:
    """Read every file and tensor, and check its hash. Exit code 3 if anything is damaged."""
    from ostinato.experiment.checkpoints import find_checkpoint
    from ostinato.experiment.facts import checkpoints
    from ostinato.experiment.reading import read_or_empty
    from ostinato.experiment.verify import checkpoint_problem

    results = []
    for run, chosen in [find_checkpoint(target, root) for target in targets]:
        run_id = read_or_empty(run / "metadata.json").get("id")
        whole = [run / "checkpoints" / e["name"] for e in checkpoints(run) if "." not in e["name"]]
        for folder in [chosen] if chosen else whole:
            problem = checkpoint_problem(folder, run_id)
            results.append({"run": run.name, "checkpoint": folder.name, "intact": not problem, "problem": problem})
            if not as_json:
                click.echo(f"{run.name}  {folder.name}  {'intact' if not problem else f'damaged: {problem}'}")
    damaged = [f"{one['run']} {one['checkpoint']}" for one in results if not one["intact"]]
    if as_json:
        print_json({"intact": not damaged, "checkpoints": results})
        if damaged:
            click.get_current_context().exit(3)
    elif damaged:
        raise RefusedError(f"damaged: {', '.join(damaged)}")
    elif not results:
        click.echo("no checkpoints")


@command.command("diff")
@click.argument("first", metavar="RUN[@step]")
@click.argument("second", metavar="RUN[@step]")
@click.option(
    "--all", "every", is_flag=True, help=f"All that differ, not {SHOWN}: the model's first, the largest first."
)
@ROOT
@JSON
def diff(first: str, second: str, every: bool, root: Path, as_json: bool) -> None:
    """Tensors that are not the same bytes, with the largest difference. Without @step: the newest checkpoint."""
    from ostinato.cli.compare_text import aligned
    from ostinato.experiment.checkpoints import differences, find_checkpoint, newest_checkpoint, tensors_of

    found = [find_checkpoint(target, root) for target in (first, second)]
    a, b = [chosen or newest_checkpoint(run) for run, chosen in found]
    different = differences(a, b)
    names = [f"{run.name}@{int(folder.name[5:])}" for (run, _), folder in zip(found, (a, b), strict=True)]
    if as_json:
        facts = {"first": names[0], "second": names[1], "equal": not different, "tensors": len(tensors_of(a))}
        return print_json(facts | {"differences": [asdict(one) for one in different]})
    if not different:
        return click.echo(f"{names[0]} and {names[1]}: all {len(tensors_of(a))} tensors are the same, bit for bit")
    ranked = sorted(different, key=lambda one: (not one.name.startswith("model/"), -size_of(one.largest)))
    shown = ranked if every else ranked[:SHOWN]
    click.echo(f"{names[0]} and {names[1]}: {len(different)} tensors differ")
    lines = [[one.name, one.problem, value_text(one.largest), of_text(one.elements, one.of)] for one in shown]
    click.echo(aligned([["tensor", "", "largest difference", "elements"], *lines]))
    if len(shown) < len(different):
        click.echo(f"... and {len(different) - len(shown)} more; --all shows them")


def size_of(largest: float | None) -> float:
    """To rank by: what cannot be measured before all that can."""
    return largest if largest is not None and largest == largest else float("inf")


def of_text(elements: int | None, of: int | None) -> str:
    """`3 of 64`."""
    return "" if elements is None else f"{elements} of {of}"
