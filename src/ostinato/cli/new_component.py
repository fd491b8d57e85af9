"""`ostinato new algorithm|reward|dataset|model|experiment NAME`: code, config and test, in the project around."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shlex
from pathlib import Path

import click

from ostinato.cli.checks.files import VAGUE
from ostinato.cli.new_project import write
from ostinato.cli.project_around import ProjectAround, project_around
from ostinato.cli.template_files import component_files, templates
from ostinato.core.errors import UserError
from ostinato.core.registry import NAME, REGISTRIES, catalog
from ostinato.core.signatures import BadSignature
from ostinato.experiment.naming import check_name

REGISTRY = {"algorithm": "ALGORITHMS", "reward": "REWARDS", "dataset": "DATASETS", "model": "MODELS"}


def _command(kind: str) -> click.Command:
    @click.command(kind, help=f"Write the {kind} NAME into the project around: code, config and test.")
    @click.argument("name")
    def command(name: str) -> None:
        project = project_around(Path.cwd())
        component = component_name(kind, name, project)
        make(kind, project, {"component": component, "class": class_name(kind, component)})

    return command


algorithm, reward, dataset, model = map(_command, REGISTRY)


@click.command("experiment")
@click.argument("name")
@click.option("--base", metavar="CONFIG", type=click.Path(path_type=Path), help="What it differs from.")
def experiment(name: str, base: Path | None) -> None:
    """Write the config of an experiment NAME and its test into the project around.

    Left out, the base is the first config of the template's example, else ostinato's quickstart.
    """
    check_name(name)
    project = project_around(Path.cwd())
    if base is not None and not base.is_file():
        raise UserError(f"--base: there is no file {base}. Name a config.")
    base = base or example(project)
    path = "ostinato:experiments/quickstart.yaml"
    if base is not None:
        path = Path(os.path.relpath(base.resolve(), project.root / "configs" / "experiments")).as_posix()
    make("experiment", project, {"component": re.sub(r"\W", "_", name).lower(), "title": name, "base": path})


def example(project: ProjectAround) -> Path | None:
    """The first config of the example that the project was made with, if it is still there."""
    if (known := templates().get(project.template or "")) is None:
        return None
    path = project.root / known.example[0]
    return path if path.is_file() else None


def component_name(kind: str, name: str, project: ProjectAround) -> str:
    """NAME as it is registered (my-loss: my_loss). Raises UserError for one that its registry or lint would refuse."""
    component = name.replace("-", "_").lower()
    if not NAME.match(component) or keyword.iskeyword(component) or component in ("null", "true", "false"):
        raise UserError(f"{name!r} is no name for a component. Letters, digits and _, beginning with a letter.")
    if VAGUE.fullmatch(component):
        raise UserError(f"{name!r} could hold anything. Name it for what it does.")
    try:
        REGISTRIES[REGISTRY[kind]].refuse_reserved(component)
    except BadSignature as error:
        raise UserError(f"{name!r}: {error}") from None
    if found := catalog((project.package,)).find(REGISTRY[kind], component):
        raise UserError(f"there is a {kind} {component} already: {found[0].origin}. Choose another name.")
    return component


def class_name(kind: str, component: str) -> str:
    """my_loss: MyLoss; with the kind behind it where the template's code uses that word already."""
    name = "".join(part[:1].upper() + part[1:] for part in component.split("_"))
    text = b"\n".join(component_files(kind, {"name": "", "component": "", "class": ""}).values()).decode()
    return name + kind.capitalize() if re.search(rf"\b{name}\b", text) else name


def make(kind: str, project: ProjectAround, values: dict[str, str]) -> None:
    """Write the files of a component, never over others, and say what to type next."""
    rendered = component_files(kind, {"name": project.package, **values})
    files = {project.place(path): content for path, content in rendered.items()}
    code = [path for path in rendered if path.startswith("src/")]
    packages = [f"{Path(project.place(path)).parent.as_posix()}/__init__.py" for path in code]
    missing = {path: b"" for path in packages if not (project.root / path).exists()}
    write(project.root, {**missing, **files})
    click.echo("\n".join(files) + "\n" + next_commands(project, list(files)))


def next_commands(project: ProjectAround, files: list[str]) -> str:
    """What runs the new files, from the working directory."""
    config = next(path for path in files if path.startswith("configs/"))
    test = next(path for path in files if path.startswith("tests/"))
    enter = [] if project.root == Path.cwd() else [f"cd {shlex.quote(str(project.root))}"]
    installed = project.source == "." or importlib.util.find_spec(project.package) is not None
    install = [] if installed else ["make setup" if (project.root / "Makefile").is_file() else "pip install -e ."]
    commands = [*enter, *install, f"ostinato train {shlex.quote(config)}", f"python -m pytest {test}"]
    return "\n".join(f"  {line}" for line in commands)
