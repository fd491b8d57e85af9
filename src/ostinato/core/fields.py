"""How a schema class is written and read: fields with a default, a meaning and bounds; nodes that name a component."""

from __future__ import annotations

import ast
import dataclasses
import functools
import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from ostinato.core.annotations import Classes, Type, parse_type
from ostinato.core.mistakes import NOWHERE, Place

# JSON Schema's words for bounds
RULES: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "minimum": (">=", operator.ge),
    "exclusiveMinimum": (">", operator.gt),
    "maximum": ("<=", operator.le),
    "exclusiveMaximum": ("<", operator.lt),
}


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

    def broken_rule(self, value: float) -> str | None:
        """The bound that a number breaks, in words."""
        for word, bound in self.bounds.items():
            sign, holds = RULES[word]
            if not isinstance(value, bool) and not holds(value, bound):
                return f"{sign} {bound:g}"
        return None


@functools.lru_cache(None)
def _classes_of(module: str) -> Classes:
    names = vars(sys.modules[module])

    def find(name: str) -> type[Section] | None:
        found = names.get(name)
        return found if isinstance(found, type) and issubclass(found, Section) else None

    return find


def fields_of(cls: type[Section]) -> dict[str, Field]:
    """The fields of a schema class as a config sees them, in order; of a component: `name` and the common ones."""
    if cls not in _FIELDS:
        _FIELDS[cls] = dict(_read_fields(cls))
    return _FIELDS[cls]


_FIELDS: dict[type[Section], dict[str, Field]] = {}


def _read_fields(cls: type[Section]) -> Iterator[tuple[str, Field]]:
    classes = _classes_of(cls.__module__)
    for field in dataclasses.fields(cls):
        if "doc" in field.metadata:
            name = cls.NAME_KEY if issubclass(cls, Component) and field.name == "name" else field.name
            yield name, Field(name, parse_type(str(field.type), classes), **field.metadata)


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
