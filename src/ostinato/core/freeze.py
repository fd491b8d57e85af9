"""Plain data -> the deeply frozen objects of a Config: frozen dataclasses, tuples, mapping proxies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ostinato.core.annotations import ANY, Type
from ostinato.core.catalog import Found
from ostinato.core.convert import fits
from ostinato.core.fields import Component, Section, fields_of
from ostinato.core.mistakes import NOWHERE, Place
from ostinato.core.nodes import join

Plain = dict[str, Any]


class Freezer:
    """Makes the objects of one resolved config."""

    def __init__(self, plain: Plain, named: Mapping[str, tuple[Found, Place]], places: Mapping[str, Place]) -> None:
        self.plain, self.named, self.places = plain, named, places

    def fields(self, cls: type[Section], plain: Plain, path: str) -> dict[str, Any]:
        """The attributes of a section, by the names of the config."""
        return {name: self.value(plain[name], field.type, join(path, name)) for name, field in fields_of(cls).items()}

    def section(self, cls: type[Section], plain: Plain, path: str) -> Any:
        """A section or component node."""
        made = self.fields(cls, plain, path)
        if not issubclass(cls, Component):
            return cls(**made)
        made["name"] = made.pop(cls.NAME_KEY)
        known = fields_of(cls)
        given = {key: value for key, value in plain.items() if key not in known}
        where = path
        if cls.KIND == "ALGORITHMS":
            where = made["name"] or path
            given = self.plain.get(made["name"], {})
        found = self.named[path][0] if path in self.named else None
        types = {option.name: option.type for option in found.options.values()} if found is not None else {}
        options = {key: self.value(value, types.get(key, ANY), join(where, key)) for key, value in given.items()}
        place = self.places.get(path, NOWHERE)
        module = found.module if found is not None else ""
        return cls(**made, options=MappingProxyType(options), place=place, key=path, module=module)

    def value(self, value: Any, kind: Type, path: str) -> Any:
        """One value of its type."""
        member = next((member for member in kind.members if fits(value, member)), ANY)
        if member.head == "struct":
            return self.section(member.args[0], value, path)
        if isinstance(value, dict):
            inner = member.args[0] if member.args else ANY
            return MappingProxyType({key: self.value(item, inner, join(path, key)) for key, item in value.items()})
        if isinstance(value, list):
            kinds = member.args if member.head == "tuple" else (member.args or (ANY,)) * len(value)
            pairs = enumerate(zip(value, kinds, strict=True))
            return tuple(self.value(item, inner, f"{path}[{i}]") for i, (item, inner) in pairs)
        return Path(value) if member.head == "Path" else value
