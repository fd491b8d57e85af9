"""JSON Schema (2020-12) of a config file, for editors: operators and `_base_` allowed, unknown keys refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ostinato.core.annotations import Type
from ostinato.core.catalog import Catalog, Found
from ostinato.core.fields import Component, Field, Section, fields_of
from ostinato.core.schema import RENAMED, SECOND_SPELLINGS, Sections
from ostinato.core.signatures import Option, plain_default

Json = dict[str, Any]
VARIABLE: Json = {"type": "string", "pattern": r"\$\{"}
NUMBER = r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|\$\{"  # also as text: not every reader knows 1e-5
SIMPLE: dict[str, Json] = {
    "bool": {"anyOf": [{"type": "boolean"}, VARIABLE]},
    "str": {"type": ["string", "number", "boolean"]},
    "Path": {"type": ["string", "number", "boolean"]},
    "None": {"type": "null"},
    "Any": {},
}


def json_schema(catalog: Catalog) -> Json:
    """The schema of a config file with all components of the catalog."""
    return Writer(catalog).whole()


class Writer:
    """Writes the definitions that sections and components need."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.definitions: dict[str, Json] = {}

    def whole(self) -> Json:
        """The schema."""
        sections = {name: self.field(field) for name, field in fields_of(Sections).items()}
        algorithms = {item.name: self.algorithm(item) for item in self.catalog.all("ALGORITHMS")}
        path = {"type": "string"}
        properties = {
            "_base_": {"description": "configs to build on", "anyOf": [path, {"type": "array", "items": path}]},
            "_hash_": {"description": "of a frozen config: proves it unchanged", "type": "string"},
        }
        whole = closed({**sections, **algorithms})
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Ostinato config",
            **whole,
            "type": ["object", "null"],
            "properties": {**properties, **whole["properties"]},
            "$defs": self.definitions,
        }

    def field(self, field: Field) -> Json:
        """A schema field."""
        return {"description": field.doc, **self.value(field.type, dict(field.bounds)), "default": field.default}

    def option(self, option: Option) -> Json:
        """An option of a component."""
        schema = self.value(option.type, {})
        return schema if option.required else {**schema, "default": plain_default(option.default, option.type)}

    def value(self, kind: Type, bounds: Json) -> Json:
        """What a type takes."""
        match kind.head:
            case "|":
                return {"anyOf": [self.value(member, bounds) for member in kind.args]}
            case "int" | "float":
                number = {"type": "integer" if kind.head == "int" else "number", **bounds}
                return {"anyOf": [number, {"type": "string", "pattern": NUMBER}]}
            case "Literal":
                return {"anyOf": [{"enum": list(kind.args)}, VARIABLE]}
            case "list" | "tuple...":
                return {"anyOf": [{"type": "array", "items": self.value(kind.args[0], {})}, VARIABLE]}
            case "tuple":
                items = [self.value(member, {}) for member in kind.args]
                array = {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
                return {"anyOf": [array, VARIABLE]}
            case "dict":
                return {"anyOf": [self.labels(kind.args[0]), VARIABLE]}
            case "struct":
                return {"anyOf": [self.struct(kind.args[0]), VARIABLE]}
        return SIMPLE[kind.head]

    def labels(self, inner: Type) -> Json:
        """A map with any keys; `~key` deletes one."""
        return {
            "type": "object",
            "properties": {"_delete_": {"const": True}},
            "patternProperties": {"^~": {"type": "null"}},
            "additionalProperties": self.value(inner, {}),
        }

    def struct(self, cls: type[Section]) -> Json:
        """A reference to a section or component node."""
        if cls.__name__ not in self.definitions:
            self.definitions[cls.__name__] = {}  # a node may hold its own kind
            definition = self.component(cls) if issubclass(cls, Component) else self.section(cls)
            self.definitions[cls.__name__] = {"description": cls.__doc__, **definition}
        return {"$ref": f"#/$defs/{cls.__name__}"}

    def section(self, cls: type[Section]) -> Json:
        """A map with fixed keys, the old ones too."""
        properties = {name: self.field(field) for name, field in fields_of(cls).items()}
        return closed({**properties, **old_keys(cls.__name__.lower())})

    def component(self, cls: type[Component]) -> Json:
        """A node that names a component. Without a name (a base may give it), options of any are allowed."""
        common = {name: self.field(field) for name, field in fields_of(cls).items()}
        common |= old_keys(cls.__name__.lower())
        found = self.catalog.all(cls.KIND)
        common[cls.NAME_KEY] = {"anyOf": [{"enum": sorted({item.name for item in found})}, {"type": "null"}, VARIABLE]}
        if cls.KIND == "ALGORITHMS":
            return closed(common)
        anything: Json = {name: {} for item in found for name in item.options}
        rules = [self.named(cls, item, list(common)) for item in found]
        return {**closed({**anything, **common}), **({"allOf": rules} if rules else {})}

    def named(self, cls: type[Component], found: Found, common: list[str]) -> Json:
        """What a node may hold once it names this component."""
        key = f"{found.kind.lower()}.{found.name}"
        self.definitions[key] = {"properties": {name: self.option(option) for name, option in found.options.items()}}
        names = one_of([*found.options, *common])
        return {
            "if": {"required": [cls.NAME_KEY], "properties": {cls.NAME_KEY: {"const": found.name}}},
            "then": {"$ref": f"#/$defs/{key}", "propertyNames": {"pattern": f"^(~?{names}[!+]?|_delete_)$"}},
        }

    def algorithm(self, found: Found) -> Json:
        """The section that bears an algorithm's name."""
        options = {name: self.option(option) for name, option in found.options.items()}
        return {"description": found.doc.split("\n")[0], "anyOf": [closed(options), VARIABLE]}


def old_keys(section: str) -> Json:
    """Other spellings of a section's keys."""
    old = [key.split(".") for key in (*RENAMED, *SECOND_SPELLINGS)]
    return {name: {"deprecated": True} for owner, name in old if owner == section}


def closed(properties: Json) -> Json:
    """A map of exactly these keys, each also as `key!` (of any value), `key+` and `~key`."""
    names = one_of(properties)
    return {
        "type": "object",
        "properties": {**properties, "_delete_": {"const": True}},
        "patternProperties": {f"^{names}!$": {}, f"^{names}\\+$": {"type": "array"}, f"^~{names}$": {"type": "null"}},
        "additionalProperties": False,
    }


def one_of(names: Iterable[str]) -> str:
    """A pattern for any of these names (of letters, digits and _)."""
    return f"({'|'.join(names)})"
