"""`ostinato lint`: each rule fires on a project made for it, at the right line, and is silent on its good twin."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ostinato.cli.lint import command, lint
from ostinato.core.errors import UserError


def project(root: Path, **files: str) -> Path:
    """A project of the given files; every folder of Python files below `lab` is a package."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for path in list(root.rglob("*.py")):
        for folder in path.parents:
            if folder.is_relative_to(root / "lab"):
                (folder / "__init__.py").touch()
    return root


def found(root: Path) -> list[tuple[str, int, str]]:
    return [(finding.file, finding.line, finding.rule) for finding in lint(root)]


def test_nothing_in_an_empty_project(tmp_path):
    assert lint(tmp_path) == []


@pytest.mark.parametrize(
    "file, budget",
    [
        ("lab/training/loop.py", 200),
        ("lab/losses/dpo.py", 60),
        ("lab/algorithms/dpo.py", 300),
        ("lab/models/vit.py", 400),
        ("scripts/train.py", 150),
    ],
)
def test_line_budget_of_each_kind_of_file(tmp_path, file, budget):
    project(tmp_path, **{file: "x = 1\n" * budget})
    assert lint(tmp_path) == []
    project(tmp_path, **{file: "x = 1\n" * (budget + 1)})
    assert found(tmp_path) == [(file, budget + 1, "line-budget")]
    assert f"{budget + 1} lines, the budget is {budget}" in lint(tmp_path)[0].message


def test_budgets_are_set_in_pyproject_and_tests_have_none(tmp_path):
    project(tmp_path, **{"lab/a.py": "x = 1\n" * 11, "tests/test_a.py": "x = 1\n" * 999})
    (tmp_path / "pyproject.toml").write_text('[tool.ostinato.lint.budgets]\n"lab/*.py" = 10\n')
    assert found(tmp_path) == [("lab/a.py", 11, "line-budget")]


@pytest.mark.parametrize(
    "source, line",
    [
        ("import lab.algorithms.dpo\n", 1),
        ("\nfrom lab.algorithms.dpo import DPO\n", 2),
        ("from lab import algorithms\n", 1),
        ("from ..algorithms import dpo\n", 1),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lab.algorithms.dpo import DPO\n", 3),
        ("def f():\n    import lab.algorithms\n", 2),
        ("import importlib\ndef f():\n    importlib.import_module('lab.algorithms.dpo')\n", 3),
    ],
)
def test_layers_however_the_import_is_written(tmp_path, source, line):
    project(tmp_path, **{"lab/algorithms/dpo.py": "DPO = 1\n", "lab/training/loop.py": source})
    assert found(tmp_path) == [("lab/training/loop.py", line, "layer")]
    assert "training imports algorithms" in lint(tmp_path)[0].message


def test_layers_that_may_be_imported_and_other_packages(tmp_path):
    source = "import lab.core.types\nfrom ostinato.algorithms import sft\nfrom lab.training import own\nimport torch\n"
    project(tmp_path, **{"lab/core/types.py": "", "lab/training/own.py": "", "lab/training/loop.py": source})
    assert lint(tmp_path) == []


def test_nobody_imports_the_command_line(tmp_path):
    project(tmp_path, **{"lab/cli/main.py": "import lab.core.a\n", "lab/core/a.py": "from lab.cli import main\n"})
    assert ("lab/core/a.py", 1, "layer") in found(tmp_path)


def test_layers_are_set_in_pyproject(tmp_path):
    project(tmp_path, **{"lab/front/page.py": "import lab.back.store\n", "lab/back/store.py": ""})
    assert lint(tmp_path) == []
    (tmp_path / "pyproject.toml").write_text("[tool.ostinato.lint.layers]\nfront = []\n")
    assert found(tmp_path) == [("lab/front/page.py", 1, "layer")]


def test_two_way_imports_are_found_once(tmp_path):
    project(
        tmp_path,
        **{
            "lab/front/page.py": "\nimport lab.back.store\n",
            "lab/back/store.py": "def f():\n    import lab.front.page\n",
        },
    )
    (only,) = lint(tmp_path)
    assert (only.file, only.line, only.rule) == ("lab/back/store.py", 2, "two-way-import")
    assert "(lab/front/page.py:2)" in only.message


def test_vague_names(tmp_path):
    good = ["lab/common_crawl.py", "lab/sampler.py"]
    bad = ["lab/data_utils.py", "lab/helpers.py", "lab/misc", "lab/utils.py"]
    project(
        tmp_path,
        **dict.fromkeys([*good, "lab/data_utils.py", "lab/helpers.py", "lab/misc/a.py", "lab/utils.py"], ""),
    )
    assert found(tmp_path) == [(name, 1, "vague-name") for name in bad]


@pytest.mark.parametrize(
    "source, line",
    [
        ("import random\nrandom.shuffle([1])\n", 2),
        ("from random import shuffle\nshuffle([1])\n", 2),
        ("import random\ndef f(draw=random.random):\n    pass\n", 2),
        ("import numpy as np\nx = np.random.rand(3)\n", 2),
        ("from numpy import random as r\nr.seed(0)\n", 2),
        ("import torch\n\ntorch.manual_seed(0)\n", 3),
        ("import torch\ntorch.cuda.manual_seed_all(0)\n", 2),
        ("import numpy as np\nnp.random.default_rng()\n", 2),
    ],
)
def test_global_random_state(tmp_path, source, line):
    project(tmp_path, **{"lab/noise.py": source})
    assert found(tmp_path) == [("lab/noise.py", line, "random-state")]
    (tmp_path / "pyproject.toml").write_text('[tool.ostinato.lint]\nglobal_random_state = ["lab/noise.py"]\n')
    assert lint(tmp_path) == []


def test_own_generators_and_the_place_for_global_ones_are_fine(tmp_path):
    own = (
        "import random\nimport numpy as np\nimport torch\nrandom.Random(3).random()\nnp.random.default_rng(3)\n"
        "torch.Generator().manual_seed(3)\nself.random.shuffle(x)\n"
    )
    project(tmp_path, **{"lab/noise.py": own, "lab/core/seeding.py": "import torch\ntorch.manual_seed(3)\n"})
    project(tmp_path, **{"tests/test_noise.py": "import torch\ntorch.manual_seed(3)\n"})
    assert lint(tmp_path) == []


def test_notebooks_with_outputs(tmp_path):
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": ["1"]}
    project(tmp_path, **{"notebooks/a.ipynb": json.dumps({"cells": [cell]}, indent=1)})
    assert lint(tmp_path) == []
    shown = {**cell, "outputs": [{"output_type": "stream", "text": ["1"]}]}
    project(tmp_path, **{"notebooks/a.ipynb": json.dumps({"cells": [cell, shown]}, indent=1)})
    (only,) = lint(tmp_path)
    assert (only.file, only.rule) == ("notebooks/a.ipynb", "notebook") and "1 cell with outputs" in only.message
    assert '"outputs": [' in (tmp_path / only.file).read_text().splitlines()[only.line - 1]


def test_configs_that_do_not_check(tmp_path):
    project(
        tmp_path,
        **{
            "configs/base.yaml": "training: {total_steps: 10}\n",
            "configs/a.yaml": "_base_: base.yaml\ntraining:\n  total_stps: 3\n  compile: on\n",
        },
    )
    assert found(tmp_path) == [("configs/a.yaml", 3, "config"), ("configs/a.yaml", 4, "config")]
    assert "total_steps" in lint(tmp_path)[0].message


def test_a_mistake_in_a_shared_base_is_reported_once(tmp_path):
    project(
        tmp_path,
        **{
            "configs/base.yaml": "training: {total_stps: 10}\n",
            "configs/a.yaml": "_base_: base.yaml\n",
            "configs/b.yaml": "_base_: base.yaml\n",
        },
    )
    assert found(tmp_path) == [("configs/base.yaml", 1, "config")]


def test_a_file_python_cannot_read(tmp_path):
    project(tmp_path, **{"lab/a.py": "x = 1\ndef f(:\n"})
    assert found(tmp_path) == [("lab/a.py", 2, "syntax")]


def test_what_is_left_out(tmp_path):
    bad = {"lab/utils.py": ""}
    for folder in ("experiments/run1/code", "build", ".venv", "env", "old"):
        project(tmp_path / folder, **bad)
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "pyproject.toml").write_text('[tool.ostinato.lint]\nexclude = ["old/*"]\n')
    assert lint(tmp_path) == []


@pytest.mark.parametrize(
    "text, message",
    [
        ("[tool.ostinato.lint]\nbudget = 3\n", "budget: unknown. Known: budgets"),
        ("[tool.ostinato.lint]\nexclude = 'old'\n", "exclude: expected a list"),
        ("[tool.ostinato.lint.budgets]\n'*.py' = '200'\n", "budgets: expected int, got '200'"),
        ("[tool", "cannot be parsed"),
    ],
)
def test_settings_that_cannot_be_understood(tmp_path, text, message):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        lint(tmp_path)


def test_the_command_prints_places_and_exits_with_1(tmp_path):
    project(tmp_path, **{"lab/utils.py": ""})
    result = CliRunner().invoke(command, [str(tmp_path)])
    assert result.exit_code == 1
    assert f"{tmp_path.as_posix()}/lab/utils.py:1: vague-name: 'utils' could hold anything." in result.output
    (tmp_path / "lab" / "utils.py").unlink()
    result = CliRunner().invoke(command, [str(tmp_path)])
    assert (result.exit_code, result.output) == (0, "Nothing to mend.\n")
