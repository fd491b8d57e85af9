"""`ostinato new project NAME --template T`: a folder that installs, passes its tests and trains as it is."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shlex
import shutil
import sys
from pathlib import Path

import click
import yaml

from ostinato.cli.checks.files import VAGUE
from ostinato.cli.project_around import RECORD
from ostinato.cli.template_files import ostinato_version, project_files, template, templates
from ostinato.core.errors import UserError

NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*([._-][A-Za-z0-9]+)*\Z")
FOLDERS = {"configs", "experiments", "notebooks", "scripts", "src", "tests", "tools"}  # of a project itself


@click.command("project")
@click.argument("name")
@click.option("--template", "chosen", metavar="T", help="Which kind; left out: lists them.")
@click.option("--to", "folder", metavar="DIR", type=click.Path(path_type=Path), help="The new folder. Default: ./NAME")
def command(name: str, chosen: str | None, folder: Path | None) -> None:
    """Make a project NAME from a template, in a new folder.

    As it is, it installs, passes `ostinato lint` and its tests, and trains its example without a network.
    """
    if chosen is None:
        rows = "\n".join(f"  {one.name:<20}{one.description}" for one in templates().values())
        raise UserError(f"--template: which kind of project? Known:\n{rows}")
    kind, package, folder = template(chosen), package_name(name), folder or Path(name)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} exists and is no folder. Name another one: --to DIR.")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} exists and is not empty. Name another folder: --to DIR.")
    values = {"name": package, "title": name, "version": ostinato_version()}
    files = project_files(kind, values)
    record = {"template": kind.name, "version": values["version"], "answers": {"name": package, "title": name}}
    files[RECORD] = yaml.safe_dump(record, sort_keys=False).encode()
    write(folder, files)
    click.echo(f"{folder}: {len(files)} files, package {package}, template {kind.name}\n" + next_commands(folder))


def package_name(name: str) -> str:
    """The Python package of a project: my-lab -> my_lab. Raises UserError for a name that cannot be one."""
    package = re.sub(r"[.-]", "_", name).lower()
    if not NAME.match(name):
        raise UserError(f"{name!r} is no name for a project. Letters, digits, - and _, beginning with a letter.")
    if keyword.iskeyword(package) or keyword.issoftkeyword(package):
        raise UserError(f"{name!r} is a word of Python. Choose another name.")
    if VAGUE.fullmatch(package) or package in FOLDERS:
        raise UserError(f"{name!r} could hold anything, or is a folder of every project. Choose another name.")
    if place := installed(package):
        raise UserError(f"{name!r} would hide the module {package} ({place}). Choose another name.")
    return package


def installed(package: str) -> str | None:
    """Where a module of that name comes from, None if there is none. A mere folder is none."""
    if package in sys.stdlib_module_names:
        return "Python's own"
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return "already imported"
    return spec.origin if spec is not None else None


def write(root: Path, files: dict[str, bytes]) -> None:
    """Write new files below a folder, never over an existing one. Raises UserError before the first is written."""
    if old := [path for path in files if (root / path).exists() or (root / path).is_symlink()]:
        raise UserError("\n".join(f"{root / path} exists; nothing was written. Choose another name." for path in old))
    try:
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            with (root / path).open("xb") as file:
                file.write(content)
    except OSError as error:
        raise UserError(f"{error.filename or root}: cannot be written: {error.strerror}.") from None


def next_commands(folder: Path) -> str:
    """Three commands to go on with; they name this Python where the shell would find another one."""
    found = shutil.which("python3")
    same = found is not None and Path(found).parent == Path(sys.executable).parent
    which = "" if same else f" PYTHON={shlex.quote(sys.executable)}"
    return "\n".join([f"  cd {shlex.quote(str(folder))}", f"  make setup{which}", f"  make train{which}"])
