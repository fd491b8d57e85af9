"""A sweep as an sbatch array: one task per run, at most so many at a time."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from ostinato.core.errors import OstinatoError
from ostinato.experiment.sweep_folder import SweepFolder
from ostinato.experiment.trials import Trial

SAVING_SECONDS = 120  # between the signal and the end of a job's time


def script(folder: SweepFolder, queue: Sequence[Trial], jobs: int) -> str:
    """The text of `array.sbatch`. Task n runs the n-th command; each is safe to run again: it goes on or is done."""
    path = folder.place.environ()["PYTHONPATH"]
    options = {
        "job-name": folder.sweep.name,
        "array": f"0-{len(queue) - 1}%{jobs}",
        "output": f"{folder.path}/logs/slurm-%A_%a.log",
        "signal": f"B:TERM@{SAVING_SECONDS}",
        "requeue": "",
        **folder.sweep.slurm,
    }
    lines = [f"#SBATCH --{name}" + (f"={value}" if value else "") for name, value in options.items()]
    commands = [f"  {shlex.quote(shlex.join(folder.command(trial)))}" for trial in queue]
    return "\n".join([
        "#!/bin/bash", *lines,
        "# Written by `ostinato sweep --slurm`. Runs the code of the sweep's submission.",
        f"cd {shlex.quote(str(folder.place.cwd))} || exit 1",
        f"export PYTHONPATH={shlex.quote(path)}",
        "commands=(", *commands, ")",
        'eval "exec ${commands[$SLURM_ARRAY_TASK_ID]}"',
        "",
    ])  # fmt: skip


def submit(folder: SweepFolder, queue: Sequence[Trial], jobs: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Write the script for what is left to run, and hand it to sbatch where there is one.

    Returns {script, runs, answer}: answer is sbatch's, null if it was not called.
    """
    file = folder.path / "array.sbatch"
    if not queue:
        say("nothing is left to run")
        return {"script": None, "runs": [], "answer": None}
    file.write_text(script(folder, queue, jobs), "utf-8")
    os.chmod(file, 0o755)
    found = {"script": str(file), "runs": [trial.name for trial in queue], "answer": None}
    if shutil.which("sbatch") is None:
        say(f"written: {file}\nThere is no sbatch here. Submit it where there is: sbatch {shlex.quote(str(file))}")
        return found
    done = subprocess.run(["sbatch", str(file)], capture_output=True, text=True)
    if done.returncode != 0:
        raise OstinatoError(f"sbatch {file}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    say(f"{done.stdout.strip()}\nStart the sweep again (without --slurm) for the table, or with it for what is left.")
    return {**found, "answer": done.stdout.strip()}
