"""How a schema class is written and read: fields with a default, a meaning and bounds; nodes that name a component."""

from __future__ import annotations

import ast
import dataclasses
import functools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from ostinato.core.annotations import Classes, Type, parse_type
from ostinato.core.mistakes import NOWHERE, Place

BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}  # JSON Schema's words


def option(default: Any, doc: str, *, science: bool = True, **bounds: float) -> Any:
    """A field of a section. `science=False`: not part of the science hash."""
    metadata = {"doc": doc, "science": science, "bounds": bounds}
    if isinstance(default, dict | list):
        return dataclasses.field(default_factory=lambda: default, metadata={**metadata, "default": default})
    return dataclasses.field(default=default, metadata={**metadata, "default": default})


@dataclass(frozen=True)
class Section:
    """A map with fixed keys."""


@dataclass(frozen=True)
class Component(Section):
    """A node that names a component: its name, its options (all of them, resolved), and the fields of its section."""

    KIND: ClassVar[str] = ""
    NAME_KEY: ClassVar[str] = "name"

    name: str | None = option(None, "which component")
    options: Mapping[str, Any] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    place: Place = dataclasses.field(default=NOWHERE, repr=False, compare=False)  # of the node, for messages
    key: str = dataclasses.field(default="", repr=False, compare=False)
    module: str = dataclasses.field(default="", repr=False, compare=False)  # where the component is


@dataclass(frozen=True)
class Field:
    """One field of a schema class."""

    name: str
    type: Type
    default: Any
    doc: str
    science: bool
    bounds: Mapping[str, float]

    @property
    def rule(self) -> str:
        """The bounds in words: `> 0`."""
        return " and ".join(f"{BOUNDS[word]} {bound:g}" for word, bound in self.bounds.items())


@functools.lru_cache(None)
def _classes_of(module: str) -> Classes:
    names = vars(sys.modules[module])

    def find(name: str) -> type[Section] | None:
        found = names.get(name)
        return found if isinstance(found, type) and issubclass(found, Section) else None

    return find


@functools.lru_cache(None)
def fields_of(cls: type[Section]) -> dict[str, Field]:
    """The fields of a schema class as a config sees them, in order; of a component: `name` and the common ones."""
    classes = _classes_of(cls.__module__)
    found = {}
    for field in dataclasses.fields(cls):
        if "doc" in field.metadata:
            name = cls.NAME_KEY if issubclass(cls, Component) and field.name == "name" else field.name
            data = field.metadata
            kind = parse_type(str(field.type), classes)
            found[name] = Field(name, kind, data["default"], data["doc"], data["science"], data["bounds"])
    return found


@functools.lru_cache(None)
def _lines(module: str) -> dict[tuple[str, str], int]:
    file = Path(str(sys.modules[module].__file__))
    return {
        (node.name, item.target.id): item.lineno
        for node in ast.parse(file.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


def place_of(cls: type[Section], name: str) -> tuple[str, int]:
    """(file, line) of a field, as shown: where a default is written."""
    attribute = "name" if issubclass(cls, Component) and name == cls.NAME_KEY else name
    for base in cls.__mro__:
        if (line := _lines(base.__module__).get((base.__name__, attribute))) is not None:
            return f"ostinato/core/{base.__module__.rsplit('.', 1)[1]}.py", line
    return "ostinato/core/schema.py", 1
