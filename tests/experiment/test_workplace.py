"""Where a rerun works: paths of the config mean there what they meant when the run began."""

import os

import pytest

from ostinato.core.errors import RefusedError
from ostinato.experiment import code_files
from ostinato.experiment.drift import rerun_variables
from ostinato.experiment.reading import read_json
from ostinato.experiment.run import Run
from ostinato.experiment.workplace import recorded_code
from tests.experiment.making import config_of
from tests.experiment.test_provenance import run_git


def test_paths_mean_what_they_meant(tmp_path, monkeypatch):
    project, shared = tmp_path / "home" / "project", tmp_path / "home" / "shared"
    for folder in (project / "src", project / "sub", project / "data", shared):
        folder.mkdir(parents=True)
    run_git(project, "init", "-q")
    (project / ".gitignore").write_text("*.ignored\n")
    (project / "src" / "lab.py").write_text("version = 1\n")
    (project / "data" / "kept.txt").write_text("in the snapshot")
    (project / "data" / "rest.ignored").write_text("not in it")
    (shared / "corpus.txt").write_text("outside the project")
    monkeypatch.setattr(code_files, "LARGEST_UNTRACKED", 100)
    (project / "large.txt").write_text("x" * 101)
    (project / "lost.txt").write_text("y" * 101)
    monkeypatch.chdir(project / "sub")
    run = Run.create(config_of(tmp_path), command=["ostinato"])
    run.start()
    run.finish("completed")
    (project / "src" / "lab.py").write_text("version = 2\n")
    (project / "data" / "kept.txt").write_text("changed since")
    (project / "lost.txt").unlink()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{project}/src:/elsewhere")

    config = {"data": {"train": {"path": "../data"}, "validation": {"path": "../../shared/corpus.txt"}}}
    base = tmp_path / "base"
    place = recorded_code(run.folder, config, project / "sub", base)
    assert place.trees["project"] == read_json(run.folder / "metadata.json")["code"][0]["tree"]
    assert (place.folder / "../src/lab.py").read_text() == "version = 1\n"
    assert (place.folder / "../data/kept.txt").read_text() == "in the snapshot"
    assert (place.folder / "../data/rest.ignored").read_text() == "not in it"
    assert (place.folder / "../../shared/corpus.txt").read_text() == "outside the project"
    assert (place.folder / "../large.txt").read_text() == "x" * 101
    assert place.not_captured == ["lost.txt (too large)"]
    restored = str((place.folder / "../src").resolve())
    assert place.python_path[0] == restored and place.python_path[-2:] == [restored, "/elsewhere"]
    assert not any(str(project) in entry and str(base) not in entry for entry in place.python_path)


def test_without_code_it_is_refused(tmp_path):
    run = Run.create(config_of(tmp_path), command=["ostinato"], code=False)
    run.finish("completed")
    with pytest.raises(RefusedError, match="was not captured. --current-code"):
        recorded_code(run.folder, {}, tmp_path, tmp_path / "base")


def test_variables_are_the_recorded_ones(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("HOME", "/home/me")
    found = rerun_variables({"variables": {"ONEDNN_VERBOSE": "0", "SLURM_JOB_ID": "5"}}, 2, ["a", "b"])
    assert (found["OMP_NUM_THREADS"], found["ONEDNN_VERBOSE"], found["HOME"]) == ("2", "0", "/home/me")
    assert not {"MKL_CBWR", "RANK", "SLURM_JOB_ID"} & found.keys() - ({"SLURM_JOB_ID"} & os.environ.keys())
    assert found["PYTHONPATH"] == f"a{os.pathsep}b"
    assert "OMP_NUM_THREADS" not in rerun_variables({}, None, [])
