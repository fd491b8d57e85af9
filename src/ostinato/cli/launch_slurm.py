"""`ostinato launch --slurm`: a job that runs a config from the code of this moment, and goes on after a stop."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ostinato.core.errors import OstinatoError, UserError

SAVING_SECONDS = 180  # between the signal and the end of a job's time
OPTION = re.compile(r"(?:--)?(?P<name>[a-z][a-z-]*)(?:=(?P<value>.*))?\Z")


def submit(nodes: int, nproc: int, arguments: Sequence[str], options: Sequence[str], requeues: int) -> None:
    """Check the config, keep the code, write the job's script, show it and hand it to sbatch where there is one."""
    from ostinato.cli.train import command
    from ostinato.core.config import load_config
    from ostinato.experiment.naming import check_name, made_up_names
    from ostinato.experiment.submission import Place
    from ostinato.experiment.submitting import open_submission

    asked = command.make_context("train", list(arguments)).params
    if len(asked["configs"]) != 1:
        raise UserError("launch --slurm: give one config. Jobs in a row: sbatch --dependency.")
    given = (*asked["overrides"], *([f"experiment.name={asked['name']}"] if asked["name"] else []))
    config = load_config(asked["configs"][0], given, complete=True)
    config.check_ranks(nodes * nproc)
    root = Path(config.experiment.output_root).absolute()
    name = config.experiment.name or next(one for one in made_up_names(config) if not (root / one).exists())
    check_name(name)
    folder = root / f"{name}.launch"
    root.mkdir(parents=True, exist_ok=True)
    place = Place(folder, open_submission(folder, config.plugins))
    frozen = folder / "configs" / f"{name}.yaml"
    frozen.write_text(config.to_yaml(), "utf-8")
    train = [sys.executable, "-m", "ostinato", "train", str(frozen), "--resume", "--name", name]
    train += ["-o", f"experiment.output_root={root}", "--sweep", str(folder)]
    if nodes * nproc > 1 and config.distributed.name == "single":
        train += ["-o", "distributed.strategy=ddp"]
    settings = {
        "job-name": name,
        "nodes": str(nodes),
        "ntasks-per-node": str(nproc),
        "output": f"{folder}/logs/slurm-%j.log",
        "open-mode": "append",
        "signal": f"USR1@{SAVING_SECONDS}",
        "requeue": "",
        **sbatch_options(options),
    }
    file = folder / "job.sbatch"
    file.write_text(script(settings, place.cwd, place.environ()["PYTHONPATH"], train, requeues), "utf-8")
    os.chmod(file, 0o755)
    click.echo(file.read_text("utf-8"))
    if shutil.which("sbatch") is None:
        click.echo(
            f"written: {file}\nThere is no sbatch here. Submit it where there is: sbatch {shlex.quote(str(file))}"
        )
        return
    done = subprocess.run(["sbatch", str(file)], capture_output=True, text=True)
    if done.returncode != 0:
        raise OstinatoError(f"sbatch {file}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    click.echo(f"{done.stdout.strip()}\n  watch it        ostinato runs watch {name}\n  its words       {folder}/logs")


def sbatch_options(given: Sequence[str]) -> dict[str, str]:
    """`partition=long`, `--exclusive`, ... by name; UserError for what is none of sbatch's."""
    found = {}
    for text in given:
        match = OPTION.match(text)
        if match is None:
            raise UserError(f"--sbatch {text}: give one of sbatch's long options, such as --sbatch partition=long.")
        found[match["name"]] = match["value"] or ""
    return found


def script(settings: Mapping[str, Any], cwd: Path, python_path: str, train: Sequence[str], requeues: int) -> str:
    """The text of `job.sbatch`. Started again it goes on; exit code 75 says that it was stopped and has saved."""
    lines = [f"#SBATCH --{name}" + (f"={value}" if value else "") for name, value in settings.items()]
    return "\n".join([
        "#!/bin/bash", *lines,
        "# Written by `ostinato launch --slurm`. Runs the code of the submission; submit it again to go on.",
        f"cd {shlex.quote(str(cwd))} || exit 1",
        f"export PYTHONPATH={shlex.quote(python_path)}",
        'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        r"export MASTER_ADDR=$(scontrol show node $first | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')",
        "export MASTER_PORT=$((20000 + (SLURM_JOB_ID + ${SLURM_RESTART_COUNT:-0} * 7919) % 20000))",
        "export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}",
        f"srun --kill-on-bad-exit=0 --wait=60 {shlex.join(train)}",
        "code=$?",
        f'if [ $code = 75 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {requeues} ]; then',
        '  scontrol requeue "$SLURM_JOB_ID"',
        "fi",
        "exit $code",
        "",
    ])  # fmt: skip
