"""`ostinato runs compare A B C...`: what differs, what came of it, whether that is more than chance."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ostinato.cli.runs import JSON, ROOT, print_json
from ostinato.core.errors import UserError

if TYPE_CHECKING:
    from ostinato.experiment.assertion import Answer
    from ostinato.experiment.compare import Comparison


@click.command("compare")
@click.argument("runs", nargs=-1)
@ROOT
@JSON
@click.option("--where", metavar="E", help="Which runs, instead of names: 'algorithm=sft and validation/loss<2'.")
@click.option("--metrics", metavar="A,B", help="Which metrics. Default: the losses and what evaluations gave.")
@click.option("--at", default="last", show_default=True, metavar="best|last|STEP", help="Which value of each.")
@click.option("--plot", multiple=True, metavar="METRIC", help="Its curves (repeatable).")
@click.option("--no-group", is_flag=True, help="One row per run, not per group of runs that differ in the seed only.")
@click.option(
    "--assert", "assertions", multiple=True, metavar="E", help="'B.loss < A.loss + 0.01'; exit code 4 if not."
)
def command(
    runs: tuple[str, ...],
    root: Path,
    as_json: bool,
    where: str | None,
    metrics: str | None,
    at: str,
    plot: tuple[str, ...],
    no_group: bool,
    assertions: tuple[str, ...],
) -> None:
    """Options that differ, then metrics; runs that differ in the seed alone are one row, mean and 95 % interval.

    Rows are A, B, C, ... Where two rows have scores item by item, they are tested against each other.
    """
    from ostinato.cli.compare_text import comparison_text
    from ostinato.experiment.compare import compare, known_metric, unfinished

    chosen = [name.strip() for name in metrics.split(",") if name.strip()] if metrics else []
    found = compare(chosen_folders(runs, where, root), chosen, parsed_at(at), group=not no_group)
    for metric in plot:
        known_metric(metric, [run for row in found.rows for run in row.members])
    answers = [judged(text, found, parsed_at(at)) for text in assertions]
    tests, notes = item_tests(found)
    notes += [f"{name} is {state}: its last values are not final" for name, state in unfinished(found.rows).items()]
    if as_json:
        print_json(document(found, at, plot) | {"tests": tests, "notes": notes, "assertions": jsonable(answers)})
    else:
        click.echo(comparison_text(found, plot, tests, notes, answers))
    if not all(answer.holds for answer in answers):
        click.get_current_context().exit(4)


def chosen_folders(runs: Sequence[str], where: str | None, root: Path) -> list[Path]:
    """The folders of runs given by name, or by what they are; each once."""
    from ostinato.experiment.finding import find_run
    from ostinato.experiment.listing import summaries
    from ostinato.experiment.selecting import matcher

    if bool(runs) == bool(where):
        raise UserError("runs compare: name runs, or choose them with --where E.")
    if where:
        matches = matcher(where)
        folders = [Path(run["folder"]) for run in summaries(root) if matches(run)]
    else:
        folders = [find_run(run, root) for run in runs]
    if not folders:
        raise UserError(f"runs compare: no runs like that in {root}. ostinato runs list shows what there is.")
    return list({folder.resolve(): folder for folder in folders}.values())


def parsed_at(at: str) -> str | int:
    """`best`, `last`, or a step."""
    if at in ("best", "last"):
        return at
    if not at.isdecimal():
        raise UserError(f"--at {at}: write best, last or a step.")
    return int(at)


def letters(count: int) -> list[str]:
    """A, B, ..., Z, A1, B1, ..."""
    return [string.ascii_uppercase[i % 26] + (str(i // 26) if i >= 26 else "") for i in range(count)]


def judged(text: str, found: Comparison, at: str | int) -> Answer:
    """An assertion over rows by letter, and runs by name; a run called like a letter goes before the row."""
    from ostinato.experiment.assertion import judge
    from ostinato.experiment.compare import distinct
    from ostinato.experiment.statistics import mean_interval

    values: dict[str, dict[str, float]] = {}
    for letter, row in zip(letters(len(found.rows)), found.rows, strict=True):
        names = distinct(name for run in row.members for name in run.names())
        having = {name: row.values(name, at) for name in names}
        values[letter] = {name: mean_interval(given).mean for name, given in having.items() if given}
    for run in (run for row in found.rows for run in row.members):
        own = {name: run.value(name, at) for name in run.names()}
        values[run.name] = {name: value for name, value in own.items() if value is not None}
    return judge(text, values)


def item_tests(found: Comparison) -> tuple[list[dict[str, Any]], list[str]]:
    """The second row against the first, task by task; a note where scores are there and cannot be tested."""
    from ostinato.experiment.item_tests import compare_items

    sides = [[run.folder for run in row.members] for row in found.rows]
    if len(sides) == 2:
        tests, notes = compare_items(*sides)
        return [jsonable(test) for test in tests], notes
    having = any((folder / "outputs" / "eval").is_dir() for side in sides for folder in side)
    return [], ["scores item by item are tested between two rows: name two"] if having and len(sides) > 2 else []


def jsonable(value: Any) -> Any:
    """Records as mappings."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: jsonable(inner) for name, inner in value._asdict().items()}
    if dataclasses.is_dataclass(value):
        return {one.name: jsonable(getattr(value, one.name)) for one in dataclasses.fields(value)}
    return [jsonable(one) for one in value] if isinstance(value, list) else value


def document(found: Comparison, at: str, plot: Sequence[str]) -> dict[str, Any]:
    """The comparison with stable keys."""
    rows = [
        {
            "row": letter,
            "label": row.label,
            "runs": [run.name for run in row.members],
            "options": {key: row.options[key] for key in found.options},
            "metrics": {name: jsonable(interval) for name, interval in row.metrics.items()},
            "curves": {
                name: [{"step": step, **jsonable(interval)} for step, interval in row.curve(name)] for name in plot
            },
        }
        for letter, row in zip(letters(len(found.rows)), found.rows, strict=True)
    ]
    return {"at": at, "options": found.options, "metrics": found.metrics, "rows": rows}
