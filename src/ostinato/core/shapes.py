"""What may stand at a key: the schema walked along a config, through sections, components and their options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ostinato.core.annotations import ANY, Type
from ostinato.core.catalog import Catalog, Found, shown
from ostinato.core.component_nodes import Algorithm
from ostinato.core.fields import Component, Field, Section, fields_of, place_of
from ostinato.core.nodes import Scalar
from ostinato.core.schema import Sections
from ostinato.core.signatures import MISSING

if TYPE_CHECKING:
    from ostinato.core.merged import Merged


@dataclass(slots=True)
class Shape:
    """The type of a key, its default, bounds and where they are declared."""

    kind: Type
    default: Any = MISSING
    field: Field | None = None  # of a section, with its bounds
    declared_by: tuple[Any, str] | None = None  # (schema class or component, name of the field or option)
    label: str | None = None  # of a component in a map of components: its name's default
    algorithm: Found | None = None  # of the section that bears an algorithm's name: whose options it holds

    @property
    def cls(self) -> type[Section] | None:
        """The section or component node it is, if it is one."""
        return next((member.args[0] for member in self.kind.members if member.head == "struct"), None)

    @property
    def component(self) -> type[Component] | None:
        """The component node it is, if it is one."""
        cls = self.cls
        return cls if cls is not None and issubclass(cls, Component) else None

    @property
    def labelled(self) -> type[Component] | None:
        """The component that a map of free labels holds, if it is one."""
        is_map = self.kind.head == "dict" and self.kind.args[0].head == "struct"
        return self.kind.args[0].args[0] if is_map else None

    @property
    def required(self) -> bool:
        """An option without a default."""
        return self.default is MISSING and self.declared_by is not None

    @property
    def declared(self) -> tuple[str, int]:
        """(file, line) of the default."""
        assert self.declared_by is not None
        owner, name = self.declared_by
        if isinstance(owner, Found):
            return shown(owner.path), owner.options[name].line
        return place_of(owner, name)


def of_field(cls: type[Section], field: Field) -> Shape:
    """The shape of a schema field."""
    return Shape(field.type, field.default, field, (cls, field.name))


def of_options(found: Found) -> dict[str, Shape]:
    """The shapes of a component's options."""
    return {o.name: Shape(o.type, o.default, None, (found, o.name)) for o in found.options.values()}


def of_struct(cls: type[Section], label: str | None = None) -> Shape:
    """The shape of a node of this class."""
    return Shape(Type("struct", (cls,)), {}, label=label)


ROOT = of_struct(Sections)
FREE = Shape(ANY)


def declared_inner(shape: Shape, key: str) -> Shape:
    """The shape of a key below, as far as the sections alone tell it (FREE for options)."""
    if shape.labelled is not None:
        return of_struct(shape.labelled, key)
    if shape.cls is not None and (found := fields_of(shape.cls).get(key)) is not None:
        return of_field(shape.cls, found)
    return FREE


class Schema:
    """Finds shapes; components are those that a settled tree names. Says nothing about mistakes."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.cache: dict[tuple[str, str], list[Found]] = {}

    def find(self, kind: str, name: str) -> list[Found]:
        """The components of that name: one, if all is well."""
        if (kind, name) not in self.cache:
            self.cache[kind, name] = self.catalog.find(kind, name)
        return self.cache[kind, name]

    def component(self, shape: Shape, merged: Merged | None) -> Found | None:
        """What a component node names, if it can be told."""
        assert shape.component is not None
        name = component_name(shape, merged)
        found = self.find(shape.component.KIND, name) if name else []
        return found[0] if found else None

    def inner(self, shape: Shape, merged: Merged | None, key: str) -> Shape | None:
        """The shape of one key below; None if the schema does not know it."""
        if shape.labelled is not None:
            return of_struct(shape.labelled, key)
        if (known := self.children(shape, merged)) is not None:
            return known.get(key)
        for member in shape.kind.members:
            if member.head in ("dict", "Any"):
                return Shape(member.args[0]) if member.args else FREE
        return None

    def children(self, shape: Shape, merged: Merged | None) -> dict[str, Shape] | None:
        """The shapes below a section or component, in order; None for other maps."""
        if shape.algorithm is not None:
            return of_options(shape.algorithm)
        if shape.cls is None:
            return None
        known = {name: of_field(shape.cls, field) for name, field in fields_of(shape.cls).items()}
        if shape.cls is Sections:
            return {**known, **self._algorithm_sections(merged, known)}
        if shape.component is not None:
            if shape.label is not None:
                known[shape.component.NAME_KEY].default = shape.label
            if shape.component is not Algorithm:
                known = {**known, **self._options(shape, merged, known), **known}  # name first; options never hide it
        return known

    def _options(self, shape: Shape, merged: Merged | None, known: Mapping[str, Shape]) -> dict[str, Shape]:
        found = self.component(shape, merged)
        if found is not None and found.problem is None:
            return of_options(found)
        return {key: FREE for key in (merged.live if merged else {}) if key not in known}

    def _algorithm_sections(self, merged: Merged | None, known: Mapping[str, Shape]) -> dict[str, Shape]:
        names = [key for key in (merged.live if merged else {}) if key not in known]
        chosen = chosen_algorithm(merged)
        found = {name: self.find("ALGORITHMS", name) for name in [*names, *([chosen] if chosen else [])]}
        empty = Type("dict", (ANY,))
        return {name: Shape(empty, {}, algorithm=items[0]) for name, items in found.items() if items}


def component_name(shape: Shape, merged: Merged | None) -> str | None:
    """The name that a component node gives, or its default."""
    assert shape.component is not None
    key = shape.component.NAME_KEY
    child = (merged.children or {}).get(key) if merged else None
    if child is not None and child.is_live:
        return child.node.text if isinstance(child.node, Scalar) and not child.is_null else None
    return shape.label if shape.label is not None else fields_of(shape.component)[key].default


def chosen_algorithm(merged: Merged | None) -> str | None:
    """The name of the chosen algorithm."""
    return component_name(of_struct(Algorithm), (merged.children or {}).get("algorithm") if merged else None)
