"""`ostinato doctor`: troubles planted, and what it says of them."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from ostinato.cli.checks import disk, machine, runs
from tests.experiment.making import python, start_run

OLD = 3600.0


def states(answers):
    return [(answer.check, answer.state) for answer in answers]


@pytest.fixture
def root(tmp_path):
    """One completed run."""
    start_run(tmp_path, name="good").finish("completed")
    return tmp_path / "experiments"


def make_old(path: Path) -> Path:
    os.utime(path, (time.time() - OLD,) * 2)
    return path


# ---- runs


def test_a_sound_root(root):
    found = [*runs.claims(root), *runs.damage(root)]
    assert states(found) == [("claims", "ok"), ("damage", "ok")]
    assert found[0].text == f"1 runs in {root}, 0 running"


def test_a_root_that_is_not_there_or_empty(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere" / "deeper"):
        assert {state for _, state in states([*runs.claims(root), *runs.damage(root)])} == {"ok"}
        assert {state for _, state in states(disk.speed(root))} <= {"ok", "warning"}
    assert not (tmp_path / "nowhere").exists()


def test_a_run_whose_process_was_killed(root, tmp_path):
    code = "import sys, os; from tests.experiment.making import start_run; from pathlib import Path\n"
    code += "start_run(Path(sys.argv[1]), name='gone'); os.kill(os.getpid(), 9)"
    python(code, tmp_path, cwd=Path(__file__).parents[2]).wait()
    (answer,) = runs.claims(root)
    assert answer.state == "warning" and answer.text.startswith("gone: running by their records")
    assert "ostinato train --resume --name gone" in answer.remedy


def test_leftovers_count_once_they_are_old(root, monkeypatch, tmp_path):
    monkeypatch.setenv("OSTINATO_CACHE", str(tmp_path / "cache"))
    half = root / ".new-1234"
    save = root / "good" / "checkpoints" / ".tmp-step_00000003"
    prepared = tmp_path / "cache" / "tokens" / ".tmp-abc-1-2"
    for folder in (half, save, prepared):
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(bytes(500_000))
    assert states(runs.leftovers(root)) == [("leftovers", "ok")]
    for folder in (half, save, prepared):
        make_old(folder)
    (answer,) = runs.leftovers(root)
    assert answer.state == "warning" and answer.text == "3 of processes that were killed, 1.5 MB"
    assert all(str(folder) in answer.remedy for folder in (half, save, prepared))


def test_a_running_runs_temporary_files_are_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("OSTINATO_CACHE", str(tmp_path / "cache"))
    run = start_run(tmp_path, name="live")
    folder = run.folder / "checkpoints" / ".tmp-step_00000003"
    folder.mkdir(parents=True)
    make_old(folder)
    assert states(runs.leftovers(run.folder.parent)) == [("leftovers", "ok")]
    run.finish("completed")
    assert states(runs.leftovers(run.folder.parent)) == [("leftovers", "warning")]


def spoil_config(folder):
    (folder / "config.yaml").chmod(0o644)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text("_hash_: 0\n" + text.partition("\n")[2])


def spoil_checkpoint(folder):
    (folder / "checkpoints" / "step_00000003").mkdir(parents=True)


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda folder: (folder / "status.json").write_text("{"), "status.json cannot be read"),
        (lambda folder: (folder / "metadata.json").write_text("[1]"), "metadata.json cannot be read"),
        (lambda folder: (folder / "metadata.json").write_bytes(b"\xff\xfe"), "metadata.json cannot be read"),
        (lambda folder: (folder / "config.yaml").unlink(), "config.yaml is missing"),
        (spoil_config, "config.yaml its own first line says 0, but metadata.json says"),
        (spoil_checkpoint, "checkpoints/step_00000003 manifest.json is missing"),
    ],
)
def test_damage_that_shows(root, spoil, said):
    spoil(root / "good")
    (answer,) = runs.damage(root)
    assert answer.state == "problem" and answer.text.startswith(f"good: {said}")
    assert answer.remedy == f"ostinato runs verify good --root {root}"


def test_records_of_strange_shapes_hide_nothing_of_other_runs(root, tmp_path):
    """Each run is judged alone: newer formats, nulls and numbers where objects should be, unicode names."""
    for name in ("newer", "none", "list"):
        start_run(tmp_path, name=name).finish("completed")
    newer = json.loads((root / "newer" / "metadata.json").read_text()) | {"version": 99}
    (root / "newer" / "metadata.json").write_text(json.dumps(newer))
    (root / "none" / "metadata.json").write_text('{"hashes": null}')
    (root / "list" / "metadata.json").write_text('{"hashes": ["x"]}')
    (root / "good" / "status.json").write_text("{")
    os.rename(root / "good", root / "gut ü")
    (only, listed, other) = runs.damage(root)
    assert listed.text.startswith("list: metadata.json cannot be read") and "hashes is ['x']" in listed.text
    assert only.text.startswith("gut ü: status.json cannot be read")
    assert other.text.startswith("newer: metadata.json cannot be read") and "version 99" in other.text
    (root / "newer" / "status.json").write_text(json.dumps({"version": 99}))
    assert states(runs.claims(root)) == [("claims", "ok")]


def test_half_a_run_is_not_overlooked(root):
    (root / "good" / "metadata.json").unlink()
    (root / "notes").mkdir()
    (answer,) = runs.damage(root)
    assert answer.state == "problem" and answer.text.startswith("good: a run without metadata.json")


# ---- disk


def test_the_innermost_mount_decides():
    mounts = "/dev/sda1 / ext4 rw 0 0\nserver:/x /home nfs4 rw 0 0\ntmpfs /home/my\\040tmp tmpfs rw 0 0\n"
    assert disk.filesystem(Path("/var/runs"), mounts) == "ext4"
    assert disk.filesystem(Path("/home/me/runs"), mounts) == "nfs4"
    assert disk.filesystem(Path("/home/my tmp/runs"), mounts) == "tmpfs"
    assert disk.filesystem(Path("/homes/me"), mounts) == "ext4"


@pytest.mark.parametrize(
    "kind, state", [("nfs4", "warning"), ("fuse.sshfs", "warning"), ("tmpfs", "warning"), ("xfs", "ok")]
)
def test_network_and_memory_disks(tmp_path, kind, state):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"device / {kind} rw 0 0\n")
    assert states(disk.kind(tmp_path, mounts)) == [("filesystem", state)]


@pytest.mark.parametrize("free_gib, state", [(0.5, "problem"), (5, "warning"), (50, "ok")])
def test_little_space(tmp_path, monkeypatch, free_gib, state):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 0, free_gib * 2**30))
    assert states(disk.space(tmp_path)) == [("space", state)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o555)
    assert states(disk.speed(tmp_path)) == [("writing", "problem")]


def test_nothing_is_left_of_the_probe(tmp_path):
    list(disk.speed(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shift, state", [(0, "ok"), (90, "warning"), (-90, "warning")])
def test_the_disks_clock(tmp_path, monkeypatch, shift, state):
    monkeypatch.setattr(disk, "disk_now", lambda folder: time.time() + shift)
    assert states(disk.clock(tmp_path)) == [("clock", state)]


# ---- machine


@pytest.mark.parametrize(
    "version, bounds, holds",
    [
        ("2.13.0+cu128", "<2.14,>=2.11", True),
        ("2.14", "<2.14,>=2.11", False),
        ("2.9.1", ">=2.11", False),
        ("5", ">=5.0.0", True),
        ("1.0", "", True),
    ],
)
def test_versions(version, bounds, holds):
    assert machine.within(version, bounds) is holds


def test_a_missing_package_is_a_problem(monkeypatch):
    wanted = ["no-such-package>=2", "click>=8.1", "nor-this>=1; extra == 'sweep'"]
    monkeypatch.setattr(machine.metadata, "requires", lambda name: wanted)
    needed, extras = machine.packages()
    assert needed.state == "problem" and needed.remedy == "pip install 'no-such-package>=2'"
    assert extras.text == "sweep (lacks nor-this>=1 (missing))"


@pytest.mark.parametrize(
    "environ, told",
    [
        ({}, "none"),
        ({"CUBLAS_WORKSPACE_CONFIG": ":0:0"}, "CUBLAS_WORKSPACE_CONFIG"),
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE=4 outside a launcher"),
        ({"WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "x"}, "none"),
        ({"CUDA_LAUNCH_BLOCKING": "1"}, "CUDA_LAUNCH_BLOCKING"),
    ],
)
def test_variables(environ, told):
    (answer,) = machine.variables(environ)
    assert answer.text.startswith(told) and answer.state == ("ok" if told == "none" else "warning")


def test_more_threads_than_a_container_may_use(tmp_path):
    limit = tmp_path / "cpu.max"
    limit.write_text("100000 100000\n")
    (answer,) = machine.threads({"OMP_NUM_THREADS": "64"}, limit)
    assert answer.state == "warning" and answer.remedy.startswith("export OMP_NUM_THREADS=1")
    assert states(machine.threads({"OMP_NUM_THREADS": "1"}, limit)) == [("threads", "ok")]


def test_a_gpu_that_this_torch_cannot_use(monkeypatch):
    import torch

    monkeypatch.setattr(machine, "driver", lambda: "570.1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for build, state in ((None, "warning"), ("12.8", "problem")):
        monkeypatch.setattr(torch.version, "cuda", build)
        assert states(machine.device())[-1] == ("device", state)


# ---- the verb


def doctor(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ostinato", "doctor", *map(str, arguments)], capture_output=True, text=True
    )


def test_a_root_that_is_a_file(root):
    done = doctor("--root", root / "good" / "config.yaml")
    assert done.returncode == 2 and "is no folder" in done.stderr


def test_the_verb_exits_1_on_a_problem_alone(root):
    done = doctor("--root", root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0].startswith("ok       python")
    assert done.stdout.splitlines()[-1].endswith("0 problem")
    (root / "good" / "status.json").write_text("")
    told = doctor("--root", root, "--json")
    assert told.returncode == 1 and told.stderr == ""
    answers = json.loads(told.stdout)
    assert answers["counts"]["problem"] == 1
    assert [answer["check"] for answer in answers["checks"] if answer["state"] == "problem"] == ["damage"]
