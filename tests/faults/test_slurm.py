"""`ostinato launch --slurm` on a real Slurm: submitted, stopped by a signal, requeued by itself, the same bits."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.processes import result, rows
from tests.faults.slurm import Slurm, is_there, wait
from tests.training.tiny import write_config

OPTIONS = ["training.total_steps=12", "training.micro_batch_size=3", "logging.save_interval=2"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not is_there(), reason="no Slurm on this machine, or not root")
def test_a_job_that_is_preempted_requeues_itself_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    config = write_config(tmp_path, "sft")
    with Slurm(tmp_path / "slurm") as slurm:

        def submit(name: str, *more: str) -> str:
            command = [sys.executable, "-m", "ostinato", "launch", str(config), "--nodes", "2", "--nproc", "1"]
            command += ["--slurm", "--name", name, *(word for option in (*OPTIONS, *more) for word in ("-o", option))]
            done = subprocess.run(command, env=slurm.environ, capture_output=True, text=True, timeout=60, cwd=tmp_path)
            assert done.returncode == 0, done.stdout + done.stderr
            return next(line for line in done.stdout.splitlines() if line.startswith("Submitted")).split()[-1]

        def logs(name: str) -> str:
            return "".join(path.read_text() for path in (experiments / f"{name}.launch" / "logs").iterdir())

        experiments = tmp_path / "experiments"
        whole = submit("whole")
        wait(lambda: slurm.state(whole) == "COMPLETED", "the whole run", lambda: logs("whole") + slurm.log(), 300)

        stopped = submit("stopped")
        wait(lambda: any(row["step"] >= 3 for row in rows(experiments / "stopped")), "step 3", slurm.log, 200)
        slurm.run("scancel", "--signal=USR1", stopped)
        wait(
            lambda: slurm.state(stopped) == "COMPLETED", "the requeued run", lambda: logs("stopped") + slurm.log(), 400
        )
    assert result(experiments / "stopped") == result(experiments / "whole")
    segments = list((experiments / "stopped" / "provenance").glob("segment_*.json"))
    assert len(segments) == 2, logs("stopped")
