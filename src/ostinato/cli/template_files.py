"""Templates of `ostinato new`: folders of files with placeholders, rendered to contents by path. Writes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import yaml

from ostinato.core.errors import UserError
from ostinato.core.mistakes import nearest

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
ABOUT = "template.yaml"  # makes a folder a template; is not copied
COMMON = "common"  # laid below every template
COMPONENTS = "components"  # one folder for each kind of `ostinato new KIND`


@dataclass(frozen=True)
class Template:
    """A kind of project: `example` are the configs that `make train` trains, one after the other."""

    name: str
    description: str
    example: tuple[str, ...]


def templates() -> dict[str, Template]:
    """All templates of the package, by name."""
    return {path.parent.name: _read(path) for path in sorted(TEMPLATES.glob(f"*/{ABOUT}"))}


def _read(path: Path) -> Template:
    about = yaml.safe_load(path.read_text("utf-8"))
    example = about["example"]
    return Template(path.parent.name, about["description"], (example,) if isinstance(example, str) else tuple(example))


def template(name: str) -> Template:
    """The template of that name. Raises UserError that names the nearest one."""
    known = templates()
    if name not in known:
        guess = nearest(name, known)
        hint = f" Did you mean {guess}?" if guess else ""
        raise UserError(f"--template: no template is called {name!r}.{hint} Known: {', '.join(known)}.")
    return known[name]


def project_files(chosen: Template, values: Mapping[str, str]) -> dict[str, bytes]:
    """The files of a new project: path -> content. The template's own win over the common ones.

    `values` must hold name (of the package), title and version; example and description are the template's.
    """
    values = {**values, "example": " ".join(chosen.example), "description": chosen.description}
    return {
        path: content
        for folder in (TEMPLATES / COMMON, TEMPLATES / chosen.name)
        for path, content in rendered(folder, values).items()
    }


def component_files(kind: str, values: Mapping[str, str]) -> dict[str, bytes]:
    """The files of a new component: `values` must hold name (of the package), component and class."""
    return rendered(TEMPLATES / COMPONENTS / kind, values)


def rendered(folder: Path, values: Mapping[str, str]) -> dict[str, bytes]:
    """Every file below a folder, with `{{key}}` in its text and `__key__` in its path replaced for each of `values`.

    A part of a path that begins with `dot_` begins with a dot. What is no UTF-8 is copied as it is.
    """
    return {_path(file, values): _content(folder / file, values) for file in _files(folder)}


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        file = path.relative_to(folder)
        if path.is_file() and "__pycache__" not in file.parts and file.as_posix() != ABOUT:
            yield file


def _path(file: Path, values: Mapping[str, str]) -> str:
    keys = "|".join(map(re.escape, values))
    parts = (re.sub(rf"__({keys})__", lambda match: values[match[1]], part) for part in file.parts)
    return "/".join(re.sub(r"\Adot_", ".", part) for part in parts)


def _content(path: Path, values: Mapping[str, str]) -> bytes:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return data
    keys = "|".join(map(re.escape, values))
    return re.sub(r"\{\{(" + keys + r")\}\}", lambda match: values[match[1]], text).encode("utf-8")


def ostinato_version() -> str:
    """The version that a new project says it was made with."""
    return version("ostinato")
