"""`ostinato`: verbs, each imported only when it is used."""

from __future__ import annotations

import os
import sys
import threading
from typing import NoReturn

import click

from ostinato.cli.verbs import Verbs
from ostinato.core.errors import OstinatoError

# verb: (module with a click command or group called `command`, one line of help)
VERBS = {
    "train": ("ostinato.cli.train", "train a model from a config"),
    "generate": ("ostinato.cli.generate", "sample text from a run or a model"),
    "chat": ("ostinato.cli.chat", "talk to a run or a model"),
    "export": ("ostinato.cli.export", "write a run's model for transformers, vLLM and others"),
    "import": ("ostinato.cli.import_model", "make a model from elsewhere a run, to start others from"),
    "config": ("ostinato.cli.config", "show, explain, check, diff, hash configs"),
    "components": ("ostinato.cli.components:components", "list what configs can name"),
    "explain": ("ostinato.cli.components:explain", "options, defaults and documentation of a component"),
    "runs": ("ostinato.cli.runs", "list, show, verify runs"),
    "checkpoint": ("ostinato.cli.checkpoint", "list, verify, diff checkpoints"),
    "data": ("ostinato.cli.data", "prepare, inspect, show data"),
    "lint": ("ostinato.cli.lint", "check layers, line budgets, names"),
    "new": ("ostinato.cli.new", "start a project, or write a component into it"),
    "doctor": ("ostinato.cli.doctor", "check machine, disk and what lies on it"),
    "sweep": ("ostinato.cli.sweep", "many runs of one config: grid, random, optuna"),
    "launch": ("ostinato.cli.launch", "train with several processes"),
}


@click.group(cls=Verbs, modules=VERBS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ostinato")
def cli() -> None:
    """ML experiments that repeat exactly."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """The command line: a user's mistake is a message and an exit code; a bug is a traceback."""
    code = exit_code_of(arguments)
    if any(thread.name.startswith("ostinato-tracker-") for thread in threading.enumerate()):
        sys.stdout.flush()  # a tracker that hangs was given up; its library must not hold the end up either
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def exit_code_of(arguments: list[str] | None) -> int:
    """Run a verb; what it raises for the user is printed."""
    try:
        return cli.main(arguments, prog_name="ostinato", standalone_mode=False) or 0
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except OstinatoError as error:
        if error.exit_code not in (2, 75) or os.environ.get("RANK", "0") == "0":  # what all ranks find, one says
            click.echo(str(error), err=True)
        return error.exit_code
