"""The job as it is run: killed and started again, stopped by a scheduler, repeated. Its bits are always the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHORT = ["training.total_steps=24", "logging.save_interval=6", "logging.eval_interval=0", "logging.trackers={}"]
TRAINED = ("loss", "grad_norm", "learning_rate", "data")
WAIT_SECONDS = 120


def start(folder: Path, script: str = "train.sh", **environ: str) -> subprocess.Popen:
    """The job with its runs below a folder, in a process group of its own."""
    words = [word for option in (f"experiment.output_root={folder}", *SHORT) for word in ("-o", option)]
    environment = {**os.environ, "PYTHON": sys.executable, **environ}
    return subprocess.Popen(["bash", str(ROOT / "jobs" / script), *words], cwd=ROOT, env=environment)


def finish(job: subprocess.Popen) -> int:
    return job.wait(timeout=WAIT_SECONDS)


def wait_for_steps(folder: Path, count: int) -> None:
    rows = folder / "durations" / "logs" / "metrics.jsonl"
    deadline = time.monotonic() + WAIT_SECONDS
    while not (rows.exists() and rows.read_text().count('"kind":"train"') >= count):
        assert time.monotonic() < deadline, "no steps"
        time.sleep(0.01)


def outcome(folder: Path) -> tuple[dict[int, tuple], bytes]:
    """What was trained on and what came of it: the rows that count by step, and the weights."""
    lines = (folder / "durations" / "logs" / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "train"]
    weights = folder / "durations" / "checkpoints" / "step_00000024" / "model" / "model.safetensors"
    return {row["step"]: tuple(row[name] for name in TRAINED) for row in rows}, weights.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert finish(start(folder)) == 0
    return folder


def test_the_job_goes_on_after_its_process_was_killed(whole, tmp_path):
    job = start(tmp_path)
    wait_for_steps(tmp_path, 9)
    segment = json.loads((tmp_path / "durations" / "provenance" / "segment_00000.json").read_text())
    os.kill(segment["pid"], signal.SIGKILL)
    assert finish(job) == 0
    assert (tmp_path / "durations" / "provenance" / "segment_00001.json").is_file()
    assert outcome(tmp_path) == outcome(whole)


def test_a_scheduler_that_stops_the_job_gets_it_queued_again(whole, tmp_path):
    asked = tmp_path / "asked"
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {asked}\n')
    scontrol.chmod(0o755)
    slurm = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "1"}
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    job = start(tmp_path, "train.sbatch", PATH=path, **slurm)
    wait_for_steps(tmp_path, 3)
    job.send_signal(signal.SIGTERM)
    assert finish(job) == 75
    assert asked.read_text() == "requeue 7\n"
    assert finish(start(tmp_path, "train.sbatch", PATH=path, **slurm)) == 0
    assert outcome(tmp_path) == outcome(whole)


def test_answers_are_pinned_by_the_run(whole):
    """No option says how to sample: what the frozen config says is done, each time."""
    for name in ("one", "two"):
        words = ["durations", "--root", str(whole), "--prompts", str(ROOT / "prompts" / "release.jsonl")]
        command = [sys.executable, "-m", "ostinato", "generate", *words, "--out", str(whole / f"{name}.jsonl")]
        subprocess.run(command, cwd=ROOT, check=True, timeout=WAIT_SECONDS)
    one, two = ((whole / f"{name}.jsonl").read_text() for name in ("one", "two"))
    assert one == two and len(one.splitlines()) == 24
