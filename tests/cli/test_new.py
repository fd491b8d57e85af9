"""`ostinato new`: names and folders it refuses, what it never overwrites, and components that lint, pass and train."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ostinato.cli.template_files import rendered

SOURCE = Path(__file__).parents[2] / "src"
KINDS = ["algorithm", "reward", "dataset", "model"]


def run(folder, *command, code=0):
    path = os.pathsep.join(map(str, [folder / "src", SOURCE]))
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def new(folder, *arguments, code=0):
    return run(folder, "ostinato", "new", *arguments, code=code)


@pytest.fixture
def project(tmp_path):
    """A project as small as one can be, not made by a template."""
    (tmp_path / "src" / "tiny_lab").mkdir(parents=True)
    (tmp_path / "src" / "tiny_lab" / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "--import-mode=importlib"\n')
    return tmp_path


def test_placeholders_in_text_and_paths(tmp_path):
    folder = tmp_path / "template"
    (folder / "src" / "__name__").mkdir(parents=True)
    (folder / "src" / "__name__" / "__init__.py").write_text("{{name}} {{{name}}} {{other}} ${{ name }}")
    (folder / "dot_hidden").mkdir()
    (folder / "dot_hidden" / "a.bin").write_bytes(b"\xff{{name}}")
    (folder / "template.yaml").write_text("")
    assert rendered(folder, {"name": "lab"}) == {
        "src/lab/__init__.py": b"lab {lab} {{other}} ${{ name }}",
        ".hidden/a.bin": b"\xff{{name}}",
    }


def test_a_project_says_what_it_was_made_from_and_what_comes_next(tmp_path):
    said = new(tmp_path, "project", "My-Lab", "--template", "research", "--to", "there")
    assert re.search(r"cd there\n  make setup.*\n  make train", said)
    record = yaml.safe_load((tmp_path / "there" / ".ostinato-template.yaml").read_text())
    assert record["template"] == "research" and record["answers"] == {"name": "my_lab", "title": "My-Lab"}
    assert (tmp_path / "there" / "src" / "my_lab" / "__init__.py").is_file()


@pytest.mark.parametrize(
    "name, reason",
    [
        ("1lab", "no name for a project"),
        ("my lab", "no name for a project"),
        ("../lab", "no name for a project"),
        ("größe", "no name for a project"),
        ("lambda", "a word of Python"),
        ("json", "would hide the module json"),
        ("NumPy", "would hide the module numpy"),
        ("ostinato", "would hide the module ostinato"),
        ("utils", "could hold anything"),
        ("tests", "a folder of every project"),
    ],
)
def test_names_that_are_refused(tmp_path, name, reason):
    assert reason in new(tmp_path, "project", name, "--template", "research", code=2)
    assert list(tmp_path.iterdir()) == []


def test_templates_are_listed_and_a_misspelt_one_is_guessed(tmp_path):
    assert "llm-post-training " in new(tmp_path, "project", "lab", code=2)
    assert "Did you mean research?" in new(tmp_path, "project", "lab", "--template", "reserch", code=2)


def test_a_folder_with_anything_in_it_is_left_alone(tmp_path):
    (tmp_path / "own-lab").mkdir()
    new(tmp_path, "project", "own-lab", "--template", "research")  # empty: fine
    assert "not empty" in new(tmp_path, "project", "own-lab", "--template", "research", code=2)
    (tmp_path / "file").touch()
    assert "is no folder" in new(tmp_path, "project", "lab2", "--template", "research", "--to", "file", code=2)


@pytest.mark.parametrize(
    "kind, name, reason",
    [
        ("reward", "2good", "no name for a component"),
        ("reward", "class", "no name for a component"),
        ("reward", "null", "no name for a component"),
        ("reward", "helpers", "could hold anything"),
        ("reward", "exact-match", "there is a reward exact_match already"),
        ("algorithm", "training", "a section of every config"),
        ("experiment", "a/b", "no name for a run"),
    ],
)
def test_components_that_are_refused(project, kind, name, reason):
    before = sorted(project.rglob("*"))
    assert reason in new(project, kind, name, code=2)
    assert sorted(project.rglob("*")) == before


def test_nothing_is_written_over_a_file(project):
    (project / "tests").mkdir()
    (project / "tests" / "test_mine.py").write_text("mine")
    said = new(project, "reward", "mine", code=2)
    assert "tests/test_mine.py exists; nothing was written" in said
    assert (project / "tests" / "test_mine.py").read_text() == "mine"
    assert not (project / "src" / "tiny_lab" / "rewards").exists()


def test_without_a_project_around(tmp_path):
    assert "ostinato new project" in new(tmp_path, "reward", "mine", code=2)
    (tmp_path / "pyproject.toml").write_text("[project")
    assert "cannot be read" in new(tmp_path, "reward", "mine", code=2)
    (tmp_path / "pyproject.toml").write_text("[project]\nentry-points = 3\n")
    assert "no package of its own" in new(tmp_path, "reward", "mine", code=2)


def test_a_package_beside_pyproject_and_a_name_that_the_template_uses(tmp_path):
    """Sample is imported by the template's own code; the working directory may be any folder of the project."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "tiny_lab").mkdir()
    (tmp_path / "tiny_lab" / "__init__.py").touch()
    (tmp_path / "deep").mkdir()
    assert f"cd {tmp_path}\n" in new(tmp_path / "deep", "reward", "sample")
    assert "class SampleReward:" in (tmp_path / "tiny_lab" / "rewards" / "sample.py").read_text()
    assert (tmp_path / "tiny_lab" / "rewards" / "__init__.py").is_file()


def test_an_experiment_stands_on_another(project):
    new(project, "experiment", "first")
    new(project, "experiment", "1e-3", "--base", "configs/experiments/first.yaml")
    text = (project / "configs" / "experiments" / "1e-3.yaml").read_text()
    assert "_base_: [first.yaml]" in text
    assert "name: 1e-3" not in run(project, "ostinato", "config", "show", "configs/experiments/1e-3.yaml")
    assert run(project, "ostinato", "lint").strip() == "Nothing to mend."
    assert "no file" in new(project, "experiment", "third", "--base", "nowhere.yaml", code=2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_component_lints_passes_its_test_and_trains(project, kind):
    said = new(project, kind, "brand-new")
    assert run(project, "ostinato", "lint").strip() == "Nothing to mend."
    run(project, "pytest", "-q", "tests/test_brand_new.py")
    command = re.search(r"^  ostinato (train \S+)$", said, re.MULTILINE)[1].split()
    assert "\ndone  " in run(project, "ostinato", *command)


@pytest.mark.slow
def test_an_experiment_trains_and_its_test_passes(project):
    """Without a template's example it stands on the quickstart; here only its first steps."""
    new(project, "experiment", "third")
    run(project, "pytest", "-q", "tests/test_third.py")
    shorter = ["-o", "training.total_steps=2", "-o", "training.threads=1", "-o", "data.train.megabytes=0.5"]
    assert "\ndone  " in run(project, "ostinato", "train", "configs/experiments/third.yaml", *shorter)


@pytest.mark.slow
def test_an_installed_project_is_found_by_its_entry_point(tmp_path):
    """A real `make setup` in an environment of its own; nothing is fetched."""
    new(tmp_path, "project", "own-lab", "--template", "research")
    project, environment = tmp_path / "own-lab", tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", environment], check=True)
    packages = next(environment.glob("lib/python*/site-packages"))
    seen = [str(SOURCE), *(path for path in sys.path if path.endswith("site-packages"))]
    (packages / "seen.pth").write_text("\n".join(seen) + "\n")
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    offline = {**plain, "PIP_NO_INDEX": "1", "OMP_NUM_THREADS": "1"}
    python = environment / "bin" / "python"
    options = {"cwd": project, "env": offline, "capture_output": True, "text": True, "timeout": 200}
    made = subprocess.run([shutil.which("make"), "setup", f"PYTHON={python}"], **options)
    assert made.returncode == 0, made.stdout + made.stderr
    listed = subprocess.run([python, "-m", "ostinato", "components", "algorithms"], **{**options, "cwd": tmp_path})
    assert "robust_pretrain" in listed.stdout, listed.stdout + listed.stderr
    for verb in ("lint", "test"):
        done = subprocess.run([shutil.which("make"), verb, f"PYTHON={python}"], **options)
        assert done.returncode == 0, done.stdout + done.stderr
