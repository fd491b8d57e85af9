"""docs/add_an_algorithm.md is run as it stands: the plug-in trains, resumes exactly, and gradients ignore the cut."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
OSTINATO = [sys.executable, "-c", "from ostinato.cli.main import main; main()"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The files of the page, outside the repository, and rows of unequal length."""
    folder = tmp_path_factory.mktemp("lab")
    page = (DOCS / "add_an_algorithm.md").read_text("utf-8")
    for name, text in re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```", page, re.DOTALL):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for package in ("my_lab", "my_lab/algorithms"):
        (folder / package / "__init__.py").touch()
    rows = [{"prompt": f"{n} and {n}?", "response": "so " * (n % 7) + str(2 * n)} for n in range(60)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(project, *arguments):
    return subprocess.run([*OSTINATO, *arguments], cwd=project, capture_output=True, text=True, timeout=120)


def train(project, name, *overrides):
    options = [part for override in ("training.threads=1", *overrides) for part in ("-o", override)]
    result = run(project, "train", "focal.yaml", "--name", name, *options)
    assert result.returncode == 0, result.stdout + result.stderr
    return rows_of(project, name)


def rows_of(project, name):
    lines = (project / "experiments" / name / "logs" / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == "train"]


@pytest.fixture(scope="module")
def whole(project):
    """The metrics of the page's own run."""
    return train(project, "whole")


def test_the_algorithm_is_as_short_as_promised(project):
    assert len((project / "my_lab/algorithms/focal.py").read_text().splitlines()) <= 60


def test_config_check_show_and_lint_agree_with_it(project):
    for command in (["config", "check", "focal.yaml"], ["lint"]):
        result = run(project, *command)
        assert result.returncode == 0, result.stdout + result.stderr
    assert "focal:\n  gamma: 1.5\n" in run(project, "config", "show", "focal.yaml").stdout


def test_it_trains(whole):
    assert [row["step"] for row in whole] == list(range(1, 21))
    assert whole[-1]["nll"] < whole[0]["nll"] - 0.1


@pytest.mark.parametrize(
    "cut", ["training.micro_batch_size=1", "training.gradient_accumulation=4", "data.packing=false"]
)
def test_its_gradient_does_not_depend_on_the_cut(project, whole, cut):
    (first, *_) = train(project, cut.partition(".")[2].replace("=", "-"), "training.total_steps=1", cut)
    for field in ("loss", "grad_norm", "nll"):
        assert first[field] == pytest.approx(whole[0][field], rel=1e-6), field


def test_it_resumes_exactly(project, whole):
    """Stopped dead after a checkpoint: the resumed run ends with the uninterrupted run's numbers, to the last bit."""
    script = (
        "import os, sys\n"
        "from ostinato.training.trainer import BaseTrainer\n"
        "own = BaseTrainer.training_step\n"
        "def dying(self, data):\n"
        "    if data.step == 15: os._exit(9)\n"
        "    return own(self, data)\n"
        "BaseTrainer.training_step = dying\n"
        "from ostinato.cli.main import main\n"
        "main(sys.argv[1:])\n"
    )
    command = ["train", "focal.yaml", "--name", "killed", "-o", "training.threads=1"]
    died = subprocess.run([sys.executable, "-c", script, *command], cwd=project, capture_output=True, timeout=120)
    assert died.returncode == 9, died.stderr
    assert max(row["step"] for row in rows_of(project, "killed")) < 15
    result = run(project, *command, "--resume")
    assert result.returncode == 0, result.stdout + result.stderr
    last = {row["step"]: row for row in rows_of(project, "killed")}
    for row in whole:
        for field in ("loss", "grad_norm", "nll", "data"):
            assert last[row["step"]][field] == row[field], (row["step"], field)


@pytest.mark.parametrize(
    "page", sorted(path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *DOCS.glob("*.md")]), ids=str
)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text("utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_tour_names_functions_that_exist():
    """`name` in code font after a file's link is to be found in that file."""
    text = (DOCS / "tour.md").read_text("utf-8")
    named = re.findall(r"\[[\w/.]+\]\((\S+?\.py)\)\*{0,2}\s+`(\w+)`", text)
    assert len(named) >= 4
    assert [(path, name) for path, name in named if f"def {name}(" not in (DOCS / path).read_text("utf-8")] == []
