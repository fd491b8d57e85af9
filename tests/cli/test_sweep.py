"""`ostinato sweep`, as a user runs it: real children, really killed, their code really edited meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ostinato.experiment.claims import newest_segment
from ostinato.experiment.reading import read_json
from ostinato.experiment.run_view import RunView
from ostinato.experiment.trials import read_trials

CONFIG = """
plugins: [my_lab]
algorithm: {name: pretrain}
model: {name: transformer, width: 8, layers: 1, heads: 1, tied_embeddings: true}
data: {train: {name: text, path: data}, sequence_length: 16, validation_fraction: 0.2}
training: {total_steps: 3, batch_size: 2, device: cpu}
logging: {log_interval: 1, trackers: {version: {}}}
"""
PLUGIN = """
import time
from ostinato.core.registry import TRACKERS
VERSION = "as submitted"

@TRACKERS.register("version")
class Version:
    def __init__(self, folder, run):
        (folder / "outputs" / "version.txt").write_text(VERSION)
    def log(self, row): pass
    def close(self): pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git repository with a config, a plug-in, and data that git ignores."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    for number in range(6):
        (folder / "data" / f"{number}.txt").write_text("to be or not to be " * (number + 2))
    (folder / "exp.yaml").write_text(CONFIG)
    (folder / "my_lab.py").write_text(PLUGIN)
    (folder / ".gitignore").write_text("data/\nexperiments/\n")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def write_sweep(project: Path, parameters: str, more: str = "") -> None:
    (project / "lr.yaml").write_text(f"config: exp.yaml\nparameters: {parameters}\n{more}")


def start(project: Path, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ostinato", "sweep", "lr.yaml", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=project, stdout=pipe, stderr=pipe, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environ}
    )


def sweep(project: Path, *arguments: str, code: int = 0, **environ: str) -> tuple[str, str]:
    """What it prints, on stdout and stderr."""
    process = start(project, *arguments, **environ)
    out, err = process.communicate()
    assert process.returncode == code, out + err
    return out, err


def wait_for(condition: Any, process: subprocess.Popen[str], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)


def trials(project: Path) -> list[Any]:
    return read_trials(project / "experiments" / "lr.sweep" / "trials.jsonl")


def steps(project: Path, name: str) -> list[int]:
    return RunView(project / "experiments" / name).metrics()["step"].tolist()


def segments(project: Path, name: str) -> int:
    return newest_segment(project / "experiments" / name)[0] + 1


def test_one_bad_child_and_nothing_runs(project: Path) -> None:
    write_sweep(project, "{training.learning_rate: [1e-3, fast], model.name: [transformer, transformr]}")
    out, err = sweep(project, code=2)
    assert out == ""
    assert "training.learning_rate: expected float, got str 'fast'" in err
    assert "model.name: 'transformr' is not in MODELS. Did you mean transformer" in err
    assert err.endswith("2 mistakes; nothing was run.\n")
    assert not (project / "experiments").exists()


def test_a_dry_run_writes_nothing_and_equal_children_are_one(project: Path) -> None:
    write_sweep(project, "{training.learning_rate: [1e-3, 0.001], experiment.seed: [1, 2]}")
    found = json.loads(sweep(project, "--dry-run", "--json")[0])
    assert [trial["parameters"]["experiment.seed"] for trial in found["trials"]] == ["1", "2"]
    assert {trial["state"] for trial in found["trials"]} == {"waiting"}
    assert not (project / "experiments").exists()


@pytest.mark.slow
def test_children_run_the_code_of_the_submission(project: Path) -> None:
    write_sweep(project, "{experiment.seed: [1, 2, 3, 4]}")
    process = start(project, "--json")
    wait_for(lambda: trials(project), process)  # all are queued
    plugin = project / "my_lab.py"
    plugin.write_text("raise RuntimeError('edited')")
    (project / "exp.yaml").write_text("nonsense: 1")
    out, err = process.communicate()
    assert process.returncode == 0, err
    names = [trial["name"] for trial in json.loads(out)["trials"]]
    assert len(names) == 4
    for name in names:
        run = project / "experiments" / name
        assert (run / "outputs" / "version.txt").read_text() == "as submitted"
        metadata = read_json(run / "metadata.json")
        submission = read_json(project / "experiments" / "lr.sweep" / "submission.json")
        assert metadata["lineage"]["sweep"] == {"name": "lr", "id": submission["id"]}
        assert [entry["tree"] for entry in metadata["code"]] == [entry["tree"] for entry in submission["code"]]
    restored = [sys.executable, "-m", "ostinato", "runs", "restore-code", names[0], "--to", "back"]
    subprocess.run(restored, cwd=project, check=True, capture_output=True)
    assert (project / "back" / "my_lab.py").read_text() == PLUGIN  # a child proves what it ran
    # A changed sweep file adds, by the same code, and renumbers nothing.
    (project / "lr.yaml").write_text("config: exp.yaml\nparameters: {experiment.seed: [5, 2]}\n")
    found = json.loads(sweep(project, "--json")[0])["trials"]
    numbers = {trial["parameters"]["experiment.seed"]: trial["trial"] for trial in found}
    assert numbers == {"1": 0, "2": 1, "3": 2, "4": 3, "5": 4}
    assert [segments(project, trial["name"]) for trial in found] == [1] * 5
    folder = project / "experiments" / "lr.sweep"
    assert (folder / "lr.yaml.1").exists()
    (folder / "code" / "0-project" / "my_lab.py").write_text("edited")
    _, err = sweep(project, code=3)
    assert "is not the code that was submitted: a file was changed" in err


@pytest.mark.slow
def test_killed_and_started_again_it_finishes_the_rest_and_repeats_nothing(project: Path) -> None:
    write_sweep(project, "{experiment.seed: [1, 2, 3], training.total_steps: [300]}")
    process = start(project)
    wait_for(lambda: len(trials(project)) == 3, process)
    first, second, third = (trial.name for trial in trials(project))
    rows = project / "experiments" / second / "logs" / "metrics.jsonl"
    wait_for(lambda: rows.exists() and rows.stat().st_size > 0, process)
    process.kill()
    process.communicate()
    assert RunView(project / "experiments" / first).state == "completed"
    out, _ = sweep(project, "--json")
    assert {trial["state"] for trial in json.loads(out)["trials"]} == {"completed"}
    assert (segments(project, first), segments(project, third)) == (1, 1)
    assert segments(project, second) <= 2  # asked to stop by the system when its parent was killed; then resumed
    for name in (first, second, third):
        assert steps(project, name) == list(range(1, 301))
    before = (project / "experiments" / "lr.sweep" / "trials.jsonl").read_bytes()
    assert sweep(project, "--json")[0] == out
    assert (project / "experiments" / "lr.sweep" / "trials.jsonl").read_bytes() == before


@pytest.mark.slow
def test_a_stop_is_passed_on_and_exits_75(project: Path) -> None:
    write_sweep(project, "{experiment.seed: [1, 2, 3], training.total_steps: [100000]}")
    process = start(project, "--jobs", "2")
    wait_for(lambda: len(trials(project)) == 3, process)
    first, second, third = (project / "experiments" / trial.name for trial in trials(project))
    for run in (first, second):
        wait_for(lambda run=run: (run / "logs" / "metrics.jsonl").exists()
                 and (run / "logs" / "metrics.jsonl").stat().st_size > 0, process)  # fmt: skip
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 75
    assert "stopped by SIGTERM: the runs are saved." in err and "ostinato sweep lr.yaml" in err
    assert [RunView(run).state for run in (first, second)] == ["preempted", "preempted"]
    assert not third.exists()
    assert read_json(first / "provenance" / "environment.json")["variables"]["OMP_NUM_THREADS"] == "1"


@pytest.mark.slow
def test_a_failed_child_is_tried_again_once_and_the_sweep_exits_1(project: Path) -> None:
    write_sweep(project, "{training.learning_rate: [1e-3, 1e30]}", "objective: {metric: loss}\n")
    found = json.loads(sweep(project, "--json", code=1)[0])
    assert [(trial["state"], trial["failures"]) for trial in found["trials"]] == [("completed", 0), ("failed", 2)]
    sweep(project, code=1)
    assert trials(project)[1].failures == 2  # enough is enough
    sweep(project, "--retries", "2", code=1)
    assert trials(project)[1].failures == 3


@pytest.mark.slow
def test_optuna_goes_on_where_it_was(project: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed: pip install 'ostinato[sweep]'")
    objective = "method: optuna\nobjective: {metric: validation/loss, mode: min, trials: %d}\n"
    write_sweep(project, "{training.learning_rate: {uniform: [1e-4, 0.1], log: true}}", objective % 1)
    sweep(project)
    write_sweep(project, "{training.learning_rate: {uniform: [1e-4, 0.1], log: true}}", objective % 3)
    found = json.loads(sweep(project, "--json")[0])["trials"]
    assert sorted(trial["trial"] for trial in found) == [0, 1, 2]
    assert {trial["state"] for trial in found} == {"completed"}
    assert [trial["objective"] for trial in found] == sorted(trial["objective"] for trial in found)


@pytest.mark.slow
def test_slurm_gets_an_array_whose_tasks_run_the_children(project: Path, tmp_path: Path) -> None:
    write_sweep(project, "{experiment.seed: [1, 2]}", "slurm: {partition: short, time: '0:10:00'}\n")
    bare = tmp_path / "bare"  # a machine without Slurm, whatever this one has
    bare.mkdir()
    (bare / "git").symlink_to(str(shutil.which("git")))
    _, err = sweep(project, "--slurm", "--jobs", "2", PATH=str(bare))
    file = project / "experiments" / "lr.sweep" / "array.sbatch"
    assert f"There is no sbatch here. Submit it where there is: sbatch {file}" in err
    text = file.read_text()
    for line in ("--job-name=lr", "--array=0-1%2", "--partition=short", "--time=0:10:00", "--requeue"):
        assert f"#SBATCH {line}\n" in text
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text(f'#!/bin/sh\ncp "$1" {tools}/submitted\necho Submitted batch job 77\n')
    (tools / "sbatch").chmod(0o755)
    _, err = sweep(project, "--slurm", PATH=f"{tools}:{os.environ['PATH']}")
    assert "Submitted batch job 77" in err
    task = {**os.environ, "SLURM_ARRAY_TASK_ID": "1"}
    task.pop("PYTHONPATH", None)  # the script says where the code is
    subprocess.run(["bash", str(tools / "submitted")], cwd=tmp_path, env=task, check=True, capture_output=True)
    found = json.loads(sweep(project, "--dry-run", "--json")[0])["trials"]
    assert [trial["state"] for trial in found] == ["waiting", "completed"]
    sweep(project, "--slurm", PATH=str(bare))
    assert file.read_text().count("ostinato train") == 1  # only what is left


def test_a_path_outside_the_code_is_a_mistake(project: Path) -> None:
    (project.parent / "outside").mkdir()
    (project.parent / "outside" / "1.txt").write_text("to be or not to be " * 9)
    write_sweep(project, "{data.train.path: [../outside]}")
    _, err = sweep(project, code=2)
    assert "data.train.path: ../outside lies outside the project, whose code is run from a copy." in err
    assert f"Write {project.parent / 'outside'}." in err
    assert not (project / "experiments").exists()
