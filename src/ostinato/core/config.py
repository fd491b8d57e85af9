"""`load_config`: a file, its bases and overrides -> one frozen Config, or all mistakes at once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ostinato.core.annotations import ANY, Type
from ostinato.core.catalog import PACKAGE, shown
from ostinato.core.fields import Component, Section, fields_of
from ostinato.core.merge import merge
from ostinato.core.mistakes import NOWHERE, ConfigError, Mistake, Mistakes
from ostinato.core.nodes import Entry, Map, Scalar, Sequence, Source, read_text
from ostinato.core.registry import ACTIVE_PLUGINS, catalog
from ostinato.core.resolve import Resolver
from ostinato.core.scalars import write_key, write_scalar
from ostinato.core.schema import Sections

__all__ = ["Config", "ConfigError", "load_config"]


@dataclass(frozen=True)
class Config(Sections):
    """A resolved, deeply frozen config. `config.training.learning_rate`, `config.optimizer.options["betas"]`."""

    full_hash: str = ""
    science_hash: str = ""
    group_hash: str = ""
    plain: Mapping[str, Any] = field(default_factory=dict, repr=False)
    origins: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Every value as plain data."""
        return json.loads(json.dumps(self.plain))

    def to_yaml(self) -> str:
        """The frozen `config.yaml`."""
        return f"_hash_: {self.full_hash}\n" + "".join(_yaml(self.plain, 0))

    def check_ranks(self, ranks: int) -> None:
        """Insist that the batch can be shared out among `ranks` data-parallel ranks."""
        t = self.training
        if t.batch_size % ranks:
            raise ConfigError(
                [Mistake(NOWHERE, "training.batch_size", f"{t.batch_size} is no multiple of {ranks} ranks.")]
            )


def load_config(
    path: str | Path, overrides: Iterable[str] = (), environ: Mapping[str, str] = os.environ, *, complete: bool = False
) -> Config:
    """Read a config with its bases and `-o` overrides; raises ConfigError with all mistakes.

    `complete`: insist on what a run needs, as `check` and `train` do.
    """
    mistakes = Mistakes()
    maps = _layers(Path(path), mistakes, [])
    for number, override in enumerate(overrides, 1):
        key, _, value = override.partition("=")
        place = Source(None, number, f"-o {override}", number).place(None)
        node: Any = Scalar(value, True, place)
        if value[:1] in ("[", "{", '"', "'"):
            node = read_text(value, Source(None, number, f"-o {override}", number), mistakes) or node
        *parents, last = key.split(".")
        root = inner = Map({}, place)
        for parent in parents:
            deeper = Map({}, place)
            inner.entries[parent] = Entry(parent, "", place, deeper)
            inner = deeper
        inner.entries[last] = Entry(last, "", place, node)
        maps.append(root)
    tree = merge(maps)
    assert tree.children is not None
    tree.children.pop("_hash_", None)
    plugins = tree.children.get("plugins")
    names = tuple(i.text for i in plugins.node.items) if plugins and isinstance(plugins.node, Sequence) else ()  # type: ignore
    resolver = Resolver(catalog(names), mistakes)
    fields = fields_of(Sections)
    plain = resolver.section(Sections, merge_sections(tree, fields), "")
    algorithm = plain["algorithm"]["name"]
    if algorithm and (found := resolver.named["algorithm"].found):
        section = tree.children.get(algorithm)
        plain[algorithm] = resolver.options(found, (section.children or {}) if section else {}, algorithm, NOWHERE)
    mistakes.raise_any()
    ACTIVE_PLUGINS.extend(name for name in names if name not in ACTIVE_PLUGINS)
    science = _science(plain, Sections)
    group = {**science, "experiment": {}}
    objects = {name: _freeze(plain[name], f.type, name, resolver, plain) for name, f in fields.items()}
    return Config(**objects, full_hash=_sha(plain), science_hash=_sha(science), group_hash=_sha(group), plain=plain)


def merge_sections(tree: Any, fields: Any) -> Any:
    """Only the sections of the schema."""
    tree_children = {key: child for key, child in tree.children.items() if key in fields}
    return type(tree)("", children=tree_children)


def _layers(path: Path, mistakes: Mistakes, seen: list[Path]) -> list[Map]:
    text = str(path)
    if text.startswith("ostinato:"):
        path = PACKAGE / "configs" / text.removeprefix("ostinato:")
    path = Path(os.path.realpath(path))
    if path in seen:
        return []
    seen.append(path)
    if not path.exists():
        mistakes.add(NOWHERE, "_base_", f"no such file: {shown(path)}")
        return []
    root = read_text(path.read_text("utf-8-sig"), Source(shown(path), len(seen)), mistakes)
    if not isinstance(root, Map):
        return []
    base = root.entries.pop("_base_", None)
    nodes: list[Any] = [] if base is None else base.node.items if isinstance(base.node, Sequence) else [base.node]
    maps = []
    for node in nodes:
        maps += _layers(Path(node.text) if ":" in node.text else path.parent / node.text, mistakes, seen)
    return [*maps, root]


def _freeze(value: Any, kind: Type, path: str, resolver: Resolver, plain: Any) -> Any:
    struct = next((m.args[0] for m in kind.members if m.head == "struct"), None)
    if value is None:
        return None
    if struct is not None:
        return _freeze_section(struct, value, path, resolver, plain)
    if isinstance(value, list):
        kinds = (
            kind.args
            if kind.head == "tuple"
            else (kind.args[0] if kind.args and kind.head != "|" else ANY,) * len(value)
        )
        return tuple(
            _freeze(v, k, f"{path}[{i}]", resolver, plain) for i, (v, k) in enumerate(zip(value, kinds, strict=True))
        )
    if isinstance(value, dict):
        inner = kind.args[0] if kind.args and kind.head != "|" else ANY
        return MappingProxyType({k: _freeze(v, inner, f"{path}.{k}", resolver, plain) for k, v in value.items()})
    return Path(value) if kind.head == "Path" and isinstance(value, str) else value


def _freeze_section(cls: type[Section], value: dict[str, Any], path: str, resolver: Resolver, plain: Any) -> Any:
    fields = fields_of(cls)
    made = {name: _freeze(value[name], f.type, f"{path}.{name}", resolver, plain) for name, f in fields.items()}
    if not issubclass(cls, Component):
        return cls(**made)
    named = resolver.named[path]
    made["name"] = made.pop(cls.NAME_KEY)
    given = (
        plain.get(made["name"], {}) if cls.KIND == "ALGORITHMS" else {k: v for k, v in value.items() if k not in fields}
    )
    types = named.found.options if named.found else {}
    options = {
        k: _freeze(v, types[k].type if k in types else ANY, f"{path}.{k}", resolver, plain) for k, v in given.items()
    }
    return cls(**made, options=MappingProxyType(options), place=named.place, key=path)


def _science(plain: dict[str, Any], cls: type[Section]) -> dict[str, Any]:
    result = dict(plain)
    for name, f in fields_of(cls).items():
        if not f.science:
            result.pop(name, None)
        elif f.type.head == "struct" and isinstance(result.get(name), dict):
            result[name] = _science(result[name], f.type.args[0])
    return result


def _sha(plain: Any) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _yaml(value: Mapping[str, Any], depth: int) -> Iterable[str]:
    for key, item in value.items():
        start = "  " * depth + write_key(key) + ":"
        if isinstance(item, dict) and item:
            yield start + "\n"
            yield from _yaml(item, depth + 1)
        else:
            yield f"{start} {_flow(item)}\n"


def _flow(item: Any) -> str:
    if isinstance(item, dict):
        return "{" + ", ".join(f"{write_key(k)}: {_flow(v)}" for k, v in item.items()) + "}"
    return "[" + ", ".join(map(_flow, item)) + "]" if isinstance(item, list) else write_scalar(item)
