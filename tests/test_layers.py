"""This repository keeps its own rules, and what must start quickly imports no torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from ostinato.cli.lint import lint

ROOT = Path(__file__).parents[1]


def test_this_repository_has_nothing_to_mend():
    assert [str(finding) for finding in lint(ROOT)] == []


@pytest.mark.parametrize("package", ["core", "cli"])
def test_importing_all_of_a_package_imports_no_torch(package):
    """In a fresh process, every module of it."""
    folder = ROOT / "src" / "ostinato" / package
    names = [
        "ostinato." + ".".join(path.relative_to(folder.parent).with_suffix("").parts) for path in folder.rglob("*.py")
    ]
    assert len(names) > 5
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
    code += "assert not {'torch', 'transformers', 'tensorboard'} & set(sys.modules), sorted(sys.modules)\n"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_init_files_are_empty_so_that_importing_one_component_imports_no_other():
    files = [path for path in (ROOT / "src" / "ostinato").rglob("__init__.py") if path.parent.name != "ostinato"]
    assert len(files) > 10
    assert [path for path in files if path.read_text().strip()] == []
