"""`ostinato doctor`: is this machine, this disk and what lies on it fit for runs?"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from ostinato.cli.checks import disk, machine, runs
from ostinato.cli.checks.answer import Answer
from ostinato.cli.runs import JSON, ROOT, print_json
from ostinato.core.errors import UserError

Check = Callable[[], Iterator[Answer]]
OF_THE_MACHINE: list[Check] = [
    *(machine.python, machine.packages, machine.device, machine.git, machine.threads, machine.variables),
]
OF_A_ROOT: list[Callable[[Path], Iterator[Answer]]] = [
    *(disk.space, disk.kind, disk.speed, disk.clock, runs.claims, runs.leftovers, runs.damage),
]
COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


def examine(root: Path) -> Iterator[Answer]:
    """Every answer, in order. A check that fails itself is a warning: a sick machine must not silence the doctor."""
    named = [(check.__name__, check) for check in OF_THE_MACHINE]
    named += [(check.__name__, functools.partial(check, root)) for check in OF_A_ROOT]
    for name, check in named:
        try:
            yield from check()
        except Exception as error:
            yield Answer(name, "warning", f"could not be checked: {type(error).__name__}: {error}", "Please report it.")


@click.command("doctor")
@ROOT
@JSON
def command(root: Path, as_json: bool) -> None:
    """Check python, torch, device, git, disk, clock, threads and the runs below --root. Exit code 1 on a problem."""
    if root.exists() and not root.is_dir():
        raise UserError(f"--root: {root} is no folder. Name the folder of the runs.")
    answers = []
    for answer in examine(root):
        answers.append(answer)
        if not as_json:
            state = click.style(f"{answer.state:<8}", COLOURS[answer.state])
            click.echo(f"{state} {answer.check:<11} {answer.text}")
            if answer.remedy:
                click.echo(f"{'':<20} -> {answer.remedy}")
    counts = {state: sum(answer.state == state for answer in answers) for state in COLOURS}
    if as_json:
        print_json({"counts": counts, "checks": [answer._asdict() for answer in answers]})
    else:
        click.echo(", ".join(f"{number} {state}" for state, number in counts.items()))
    if counts["problem"]:
        click.get_current_context().exit(1)
