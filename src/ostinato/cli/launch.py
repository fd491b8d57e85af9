"""`ostinato launch`: train with several processes on this machine, by torchrun."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from pathlib import Path

import click

SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
SAVING_SECONDS = "300"


@click.command(
    "launch", context_settings={"ignore_unknown_options": True}, options_metavar="--nproc N [OPTIONS of train]"
)
@click.option("--nproc", type=click.IntRange(min=1), required=True, help="Processes on this machine, one per device.")
@click.option("--max-restarts", type=click.IntRange(min=0), default=0, help="Start the group again after a failure.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="CONFIG...")
def command(nproc: int, max_restarts: int, arguments: tuple[str, ...]) -> None:
    """Train with N processes: `ostinato launch CONFIG --nproc 4` takes all of train's options.

    Unless they say otherwise, distributed.strategy is ddp. The exit code is the run's.
    """
    if not any(word.startswith("distributed.strategy=") for word in arguments):
        arguments = (*arguments, "-o", "distributed.strategy=ddp")
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "exit_code"
        os.environ["OSTINATO_LAUNCHER"] = f"{os.getpid()}:{answer}"
        run_group(nproc, max_restarts, arguments)
        sys.exit(int(answer.read_text()) if answer.is_file() else 1)


def run_group(nproc: int, max_restarts: int, arguments: tuple[str, ...]) -> None:
    """torchrun, in this process; what it says of failures is the ranks' own business."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // nproc)))
    parser = run.get_args_parser()
    known = {option for action in parser._actions for option in action.option_strings}
    options = ["--standalone", f"--nproc-per-node={nproc}", f"--max-restarts={max_restarts}"]
    if "--signals-to-handle" in known:
        options.append(f"--signals-to-handle={SIGNALS}")
    if "--shutdown-timeout" in known:  # torch 2.13; before, workers are killed 30 s after the signal
        options.append(f"--shutdown-timeout={SAVING_SECONDS}")
    with contextlib.suppress(ChildFailedError, SignalException):
        run.main([*options, "-m", "ostinato", "train", *arguments])
