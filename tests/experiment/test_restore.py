"""`runs restore-code`: the same bytes, modes and links from the run's own bundle, wherever; damage is refused."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ostinato.experiment.reading import read_json
from ostinato.experiment.run import Run
from ostinato.experiment.snapshot import take
from tests.experiment.making import config_of
from tests.experiment.test_provenance import awkward_tree, on_disk, repository, run_git


def run_in(project: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run whose project is `project`."""
    monkeypatch.chdir(project)
    root.mkdir()
    run = Run.create(config_of(root), command=["ostinato"])
    run.start()
    run.finish("completed")
    return run.folder


def restore(run: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ostinato", "runs", "restore-code", str(run), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("kind", ["git", "folder"])
def test_restored_code_is_the_code_as_it_was(tmp_path, kind, monkeypatch):
    project = tmp_path / "project"
    if kind == "git":
        repository(project)
        run_git(project, "config", "diff.noprefix", "true")
        (project / "crlf.txt").write_bytes(b"one\r\ntwo\r\nthree\n")  # changed text, with a filter on it
        (project / "binary.bin").write_bytes(bytes(reversed(range(256))))
    else:
        project.mkdir()
        awkward_tree(project)
        (project / "pyproject.toml").touch()
    run = run_in(project, tmp_path / "runs", monkeypatch)
    before = on_disk(project, "ignored")
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(project)  # the run alone is enough
    shutil.rmtree(run.parent / ".code")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run_git(elsewhere, "init", "-q")
    run_git(elsewhere, "config", "core.autocrlf", "true")
    done = restore(run, "--to", "out", "--json", cwd=elsewhere)  # inside another repository, by a relative path
    assert done.returncode == 0, done.stderr
    record = read_json(run / "metadata.json")["code"][0]
    assert json.loads(done.stdout) == {
        "run": "exp001",
        "role": "project",
        "tree": record["tree"],
        "files": len(before),
        "folder": "out",
    }
    assert on_disk(elsewhere / "out") == before
    done = restore(run, "--to", tmp_path / "out", cwd=tmp_path)  # outside git
    assert done.stdout == f"tree {record['tree']}: {len(before)} files in {tmp_path / 'out'}\n"
    again = take(tmp_path / "out", "project")  # ignored files are not there, so all of it is listed again
    again.discard()
    assert again.record["tree"] == record["tree"]


def test_what_cannot_be_restored_is_said(tmp_path, monkeypatch):
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").touch()
    run = run_in(project, tmp_path / "runs", monkeypatch)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine").touch()
    done = restore(run, "--to", "used", cwd=tmp_path)
    assert done.returncode == 2 and "used is not empty" in done.stderr
    done = restore(run, "--to", "new", "--role", "plugin:nothing", cwd=tmp_path)
    assert done.returncode == 2 and "holds no code of plugin:nothing. --role: project" in done.stderr
    bundle = run / "provenance" / read_json(run / "metadata.json")["code"][0]["bundle"]
    os.chmod(bundle, 0o644)
    data = bytearray(bundle.read_bytes())
    data[-30] ^= 1
    bundle.unlink()
    bundle.write_bytes(data)
    done = restore(run, "--to", "new", cwd=tmp_path)
    assert done.returncode == 3 and "is damaged" in done.stderr
    bundle.unlink()
    done = restore(run, "--to", "new", cwd=tmp_path)
    assert done.returncode == 3 and "is missing" in done.stderr
    assert "Traceback" not in done.stderr
