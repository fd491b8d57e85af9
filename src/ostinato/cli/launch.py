"""`ostinato launch`: train with several processes, by torchrun on this machine and others, or as a Slurm job."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from ostinato.core.errors import OstinatoError, UserError

SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
SAVING_SECONDS = "300"


@click.command(
    "launch", context_settings={"ignore_unknown_options": True}, options_metavar="--nproc N [OPTIONS of train]"
)
@click.option("--nproc", type=click.IntRange(min=1), required=True, help="Processes on each machine, one per device.")
@click.option("--nodes", type=click.IntRange(min=1), default=1, help="Machines; each needs the same run folder.")
@click.option("--rendezvous", metavar="HOST:PORT", help="Where they meet: say the same on each of several machines.")
@click.option("--max-restarts", type=click.IntRange(min=0), default=0, help="Start the group again after a failure.")
@click.option("--slurm", is_flag=True, help="Write an sbatch script that runs the code of this moment, and submit it.")
@click.option("--sbatch", multiple=True, metavar="NAME=VALUE", help="An option for sbatch (repeatable).")
@click.option(
    "--max-requeues", type=click.IntRange(min=0), default=20, help="How often a stopped job goes on by itself."
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="CONFIG...")
def command(
    nproc: int, nodes: int, rendezvous: str | None, max_restarts: int, arguments: tuple[str, ...], **slurm: Any
) -> None:
    """Train with N processes: `ostinato launch CONFIG --nproc 4` takes all of train's options.

    Where the config says single, distributed.strategy is ddp. The exit code is the run's. Several machines: start the
    same line with --nodes and --rendezvous on each, or once with --slurm.
    """
    if slurm["slurm"]:
        from ostinato.cli.launch_slurm import submit

        return submit(nodes, nproc, arguments, slurm["sbatch"], slurm["max_requeues"])
    if slurm["sbatch"]:
        raise UserError("--sbatch goes with --slurm.")
    if (nodes > 1) is not (rendezvous is not None):
        raise UserError("launch: --nodes and --rendezvous HOST:PORT go together, the same on each machine.")
    if chosen_strategy(arguments) == "single":
        arguments = (*arguments, "-o", "distributed.strategy=ddp")
    meeting = ["--standalone"]
    if rendezvous is not None:
        meeting = [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={rendezvous}", "--rdzv-id=ostinato"]
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "exit_code"
        os.environ["OSTINATO_LAUNCHER"] = f"{os.getpid()}:{answer}"
        well = run_group(nproc, [*meeting, f"--max-restarts={max_restarts}"], arguments)
        sys.exit(int(answer.read_text()) if answer.is_file() else int(not well or nodes == 1))


def chosen_strategy(arguments: tuple[str, ...]) -> str:
    """What the config asks for. What is wrong with it is for the ranks to say."""
    from ostinato.cli.train import command as train
    from ostinato.cli.train import requested

    try:
        given = train.make_context("train", list(arguments), resilient_parsing=True).params
        name = (f"experiment.name={given['name']}",) if given["name"] else ()
        overrides, path = (*given["overrides"], *name), (given["configs"] or (None,))[0]
        return requested(path, overrides, given["resume"], given["name"])[0].distributed.name
    except (OstinatoError, click.ClickException):
        return "single"


def run_group(nproc: int, options: list[str], arguments: tuple[str, ...]) -> bool:
    """torchrun, in this process; whether it went well. What it says of failures is the ranks' own business."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // nproc)))
    parser = run.get_args_parser()
    known = {option for action in parser._actions for option in action.option_strings}
    options = [*options, f"--nproc-per-node={nproc}"]
    if "--signals-to-handle" in known:
        options.append(f"--signals-to-handle={SIGNALS}")
    if "--shutdown-timeout" in known:  # torch 2.13; before, workers are killed 30 s after the signal
        options.append(f"--shutdown-timeout={SAVING_SECONDS}")
    with contextlib.suppress(ChildFailedError, SignalException):
        run.main([*options, "-m", "ostinato", "train", *arguments])
        return True
    return False
