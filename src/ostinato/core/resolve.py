"""A merged tree against the schema: every value typed, defaults filled in, every mistake noted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ostinato.core.annotations import ANY, Type
from ostinato.core.catalog import Catalog, Found
from ostinato.core.convert import BROKEN, Unfit, convert, describe
from ostinato.core.fields import Component, Field, Section, fields_of
from ostinato.core.merge import Merged
from ostinato.core.mistakes import NOWHERE, Mistakes, Place
from ostinato.core.nodes import Scalar, Sequence, join
from ostinato.core.signatures import MISSING, Option

Plain = dict[str, Any]


@dataclass(frozen=True)
class Named:
    """A component node that was resolved: what its name stands for (None: no name, or an unknown one)."""

    kind: str
    found: Found | None
    place: Place


def plain_default(value: Any, kind: Type = ANY) -> Any:
    """A default as plain data of its type."""
    if isinstance(value, list | tuple):
        return [plain_default(item) for item in value]
    if isinstance(value, dict):
        return {key: plain_default(item) for key, item in value.items()}
    is_float = isinstance(value, int) and not isinstance(value, bool)
    return (
        float(value)
        if is_float and any(m.head == "float" for m in kind.members) and Type("int") not in kind.members
        else value
    )


class Resolver:
    """Resolves one merged tree. `named` maps the path of each component node to what it names."""

    def __init__(self, catalog: Catalog, mistakes: Mistakes) -> None:
        self.catalog, self.mistakes = catalog, mistakes
        self.named: dict[str, Named] = {}
        self.missing: list[tuple[Place, str, str]] = []  # what only `check` and `train` insist on

    def fail(self, place: Place, key: str, message: str) -> None:
        """Note a mistake."""
        self.mistakes.add(place, key, message)

    def section(self, cls: type[Section], merged: Merged | None, path: str, label: str | None = None) -> Any:
        """The plain map of a section or component node."""
        if merged is not None and merged.broken:
            return BROKEN
        if merged is not None and merged.children is None and merged.node is not None:
            self.fail(
                merged.node.place, path, f"expected a map, got {describe(merged.node)}. Write {{}} or remove the key."
            )
            return BROKEN
        children = (merged.children if merged else None) or {}
        if issubclass(cls, Component):
            return self.component(cls, merged, children, path, label)
        fields = fields_of(cls)
        for key, child in children.items():
            if key not in fields:
                self.unknown(child, key, path, list(fields))
        return {name: self.field(field, children.get(name), join(path, name)) for name, field in fields.items()}

    def unknown(self, child: Merged, key: str, path: str, known: list[str]) -> None:
        """A key that the schema does not know."""
        self.fail(child.place, child.path, f"unknown key. Known here: {', '.join(known)}.")

    def component(
        self, cls: type[Component], merged: Merged | None, children: dict[str, Merged], path: str, label: str | None
    ) -> Plain:
        """The plain map of a component node: name, common fields, options."""
        fields = dict(fields_of(cls))
        name_field = fields[cls.NAME_KEY]
        default = label if label is not None else name_field.default
        name = self.value(name_field.type, children.get(cls.NAME_KEY), join(path, cls.NAME_KEY), default)
        place = merged.place if merged else NOWHERE
        name_node = children[cls.NAME_KEY].node if cls.NAME_KEY in children else None
        found = self.lookup(cls.KIND, name, name_node.place if name_node else place, join(path, cls.NAME_KEY))
        self.named[path] = Named(cls.KIND, found, place)
        result: Plain = {cls.NAME_KEY: name}
        for key, field in fields.items():
            if key != cls.NAME_KEY:
                result[key] = self.field(field, children.get(key), join(path, key))
        options = {} if cls.KIND == "ALGORITHMS" else {k: c for k, c in children.items() if k not in fields}
        return {**result, **self.options(found, options, path, place)}

    def lookup(self, kind: str, name: Any, place: Place, key: str) -> Found | None:
        """What a component's name stands for."""
        if not isinstance(name, str):
            return None
        found = self.catalog.find(kind, name)
        if not found and place != NOWHERE:
            self.fail(place, key, f"{name!r} is not in {kind}. Known: {', '.join(self.catalog.names(kind)) or 'none'}.")
        return found[0] if found else None

    def options(self, found: Found | None, children: dict[str, Merged], path: str, place: Place) -> Plain:
        """The options of a component, each of its type; without a known component, as read."""
        if found is None:
            return {key: self.value(ANY, child, join(path, key), MISSING) for key, child in children.items()}
        for key, child in children.items():
            if key not in found.options:
                self.fail(child.place, join(path, key), f"not an option of {found.name} ({found.origin}).")
        return {name: self.option(option, children.get(name), path, place) for name, option in found.options.items()}

    def option(self, option: Option, merged: Merged | None, path: str, place: Place) -> Any:
        """One option; a required one that is not given is null, and missing."""
        key = join(path, option.name)
        is_null = (
            merged is not None
            and isinstance(merged.node, Scalar)
            and merged.node.plain
            and merged.node.text in ("", "~", "null")
        )
        if option.required and (merged is None or is_null):
            self.missing.append((place, key, "required and not set."))
            return None
        return self.value(option.type, merged, key, option.default)

    def field(self, field: Field, merged: Merged | None, path: str) -> Any:
        """One field of a section, within its bounds."""
        value = self.value(field.type, merged, path, field.default)
        if isinstance(value, int | float) and field.bounds and merged is not None and merged.node is not None:
            b = field.bounds
            if (
                value < b.get("minimum", value)
                or value > b.get("maximum", value)
                or value <= b.get("exclusiveMinimum", value - 1)
                or value >= b.get("exclusiveMaximum", value + 1)
            ):
                self.fail(merged.node.place, path, f"must be {field.rule}, got {value}.")
                return BROKEN
        return value

    def value(self, kind: Type, merged: Merged | None, path: str, default: Any) -> Any:
        """The plain value of one key."""
        if merged is not None and merged.broken:
            return BROKEN
        struct = next((member for member in kind.members if member.head == "struct"), None)
        absent = merged is None or (merged.node is None and merged.children is None)
        if struct is not None:
            null = (
                merged is not None
                and isinstance(merged.node, Scalar)
                and merged.node.plain
                and merged.node.text in ("", "~", "null")
            )
            if kind.nullable and (null or (absent and default is None)):
                return None
            return self.section(struct.args[0], merged, path)
        if kind.head == "dict" and kind.args[0].head == "struct":
            return self.labels(kind.args[0].args[0], merged, path, default)
        if merged is None or absent:
            value = BROKEN if default is MISSING else plain_default(default, kind)
        elif merged.children is not None:
            value = self.free_map(kind, merged, path)
        else:
            assert merged.node is not None
            value = convert(merged.node, kind, path, self.fail)
        for entry in merged.appends if merged else []:
            if not isinstance(entry.node, Sequence):
                self.fail(entry.place, path, "+ appends a list. Write [...].")
            elif isinstance(value, list):
                value = [*value, *(convert(entry.node, kind, path, self.fail) or [])]
        return value

    def free_map(self, kind: Type, merged: Merged, path: str) -> Any:
        """A map with any keys."""
        assert merged.children is not None
        inner = next((m.args[0] if m.head == "dict" else ANY for m in kind.members if m.head in ("dict", "Any")), None)
        if inner is None:
            self.fail(merged.place, path, f"expected {kind}, got a map.")
            return BROKEN
        return {key: self.value(inner, child, join(path, key), MISSING) for key, child in merged.children.items()}

    def labels(self, cls: type[Component], merged: Merged | None, path: str, default: Any) -> Any:
        """A map from free labels to component nodes, whose name defaults to the label."""
        if merged is None or (merged.node is None and merged.children is None):
            return {label: self.section(cls, None, join(path, label), label) for label in default}
        if merged.children is None:
            return self.section(cls, merged, path)
        return {label: self.section(cls, child, join(path, label), label) for label, child in merged.children.items()}


assert Unfit  # what conversion raises inside itself
