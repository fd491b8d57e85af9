"""Every template in the package: a new project lints, passes its tests and trains its example, unmodified, offline."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ostinato.cli.template_files import templates

SOURCE = Path(__file__).parents[2] / "src"


def environment(project):
    """The project and this ostinato importable, one thread, no network through any proxy."""
    path = os.pathsep.join(map(str, [project / "src", SOURCE]))
    offline = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    return {**os.environ, **offline, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def run(project, *command, cwd=None):
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd or project,
        env=environment(project),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=templates().values(), ids=lambda one: one.name)
def made(request, tmp_path_factory):
    """(template, folder of a project made from it)."""
    folder = tmp_path_factory.mktemp("projects")
    run(folder, "ostinato", "new", "project", "own-lab", "--template", request.param.name)
    return request.param, folder / "own-lab"


def test_it_lints_and_every_config_checks(made):
    _, project = made
    assert run(project, "ostinato", "lint").strip() == "Nothing to mend."
    experiments = sorted(path.relative_to(project).as_posix() for path in project.glob("configs/experiments/*.yaml"))
    assert experiments
    run(project, "ostinato", "config", "check", *experiments)


def test_no_placeholder_is_left(made):
    _, project = made
    for path in filter(Path.is_file, project.rglob("*")):
        text = path.read_bytes().decode("utf-8", "replace")
        assert not [word for word in ("{{name}}", "{{title}}", "{{version}}", "__name__.") if word in text], path
        assert "__name__" not in path.as_posix()


@pytest.mark.slow
def test_its_own_tests_pass(made):
    _, project = made
    assert " passed" in run(project, "pytest", "-q", "-p", "no:cacheprovider")


@pytest.mark.slow
def test_its_example_trains_reports_and_repeats(made):
    chosen, project = made
    said = run(project, "ostinato", "train", *chosen.example)
    assert said.count("\ndone  ") == len(chosen.example)
    assert run(project, "ostinato", "runs", "verify", "--all").count("  intact") == len(chosen.example)
    last = json.loads(run(project, "ostinato", "runs", "list", "--json"))[-1]["name"]
    assert (project / "experiments" / last / "outputs" / "report.html").stat().st_size < 1_000_000
    assert "BITWISE" in run(project, "ostinato", "runs", "reproduce", last, "--steps", "3")
    assert run(project, "ostinato", "lint").strip() == "Nothing to mend."
