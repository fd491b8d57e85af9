"""This repository keeps its own rules, and what must start quickly imports no torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from ostinato.cli.lint import lint
from ostinato.cli.main import VERBS

ROOT = Path(__file__).parents[1]


def test_this_repository_has_nothing_to_mend():
    assert [str(finding) for finding in lint(ROOT)] == []


def modules(package):
    folder = ROOT / "src" / "ostinato" / package
    return ["ostinato." + ".".join(p.relative_to(folder.parent).with_suffix("").parts) for p in folder.rglob("*.py")]


@pytest.mark.parametrize("names", [modules("core"), [module.partition(":")[0] for module, _ in VERBS.values()]])
def test_core_and_every_verb_are_imported_without_torch(names):
    """In a fresh process; what a verb needs torch for it imports when it runs."""
    assert len(names) > 5
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
    code += "assert not {'torch', 'transformers', 'tensorboard'} & set(sys.modules), sorted(sys.modules)\n"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_init_files_are_empty_so_that_importing_one_component_imports_no_other():
    files = [path for path in (ROOT / "src" / "ostinato").rglob("__init__.py") if path.parent.name != "ostinato"]
    files = [path for path in files if not path.is_relative_to(ROOT / "src" / "ostinato" / "templates")]
    assert len(files) > 10
    assert [path for path in files if path.read_text().strip()] == []
