"""`load_config`: a file, its bases and overrides -> one frozen Config, or all mistakes at once."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostinato.core.fields import Component, Section, fields_of
from ostinato.core.freeze import Freezer
from ostinato.core.frozen import frozen_text, sha256
from ostinato.core.layers import Layers
from ostinato.core.merge import Merger
from ostinato.core.merged import Merged
from ostinato.core.mistakes import ConfigError, Mistakes
from ostinato.core.nodes import Scalar, Sequence
from ostinato.core.references import Settler
from ostinato.core.registry import ACTIVE_PLUGINS, catalog
from ostinato.core.resolve import Resolver
from ostinato.core.rules import check_ranks, check_rules
from ostinato.core.schema import Sections
from ostinato.core.shapes import FREE, ROOT, Schema
from ostinato.core.variables import BadVariable, expand_text

if TYPE_CHECKING:
    from ostinato.core.origins import Origins, Step

__all__ = ["Config", "ConfigError", "load_config"]

Plain = dict[str, Any]


@dataclass(frozen=True)
class Loaded:
    """What a config was made of: needed to explain it."""

    plain: Plain
    root: Merged
    schema: Schema
    settler: Settler

    @property
    def origins(self) -> Origins:
        """The chains of its values."""
        from ostinato.core.origins import Origins  # only who asks pays

        return Origins(self.root, self.schema, self.settler)


@dataclass(frozen=True)
class Config(Sections):
    """A resolved, deeply frozen config: `config.training.learning_rate`, `config.optimizer.options["betas"]`."""

    full_hash: str = ""
    science_hash: str = ""  # without the fields that do not change what is asked
    group_hash: str = ""  # without the seed too: runs that share it are repetitions
    loaded: Loaded = field(repr=False, compare=False, kw_only=True)

    def to_dict(self) -> Plain:
        """Every value as plain data (what `config show --json` prints)."""
        return copy.deepcopy(self.loaded.plain)

    def to_yaml(self) -> str:
        """The frozen `config.yaml` of a run: it reloads to itself."""
        return frozen_text(self.loaded.plain, self.full_hash)

    @property
    def origins(self) -> dict[str, list[Step]]:
        """Where each value comes from: leaf -> chain of {value, file, line, kind}."""
        return self.loaded.origins.all()

    def check_ranks(self, ranks: int) -> None:
        """Insist that the batch can be shared out among `ranks` data-parallel ranks; raises ConfigError."""
        section = (self.loaded.root.children or {}).get("training")
        batch = section.live.get("batch_size") if section is not None else None
        check_ranks(self.training, ranks, *([batch.node.place] if batch is not None and batch.node is not None else []))


def load_config(
    path: str | Path,
    overrides: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
    *,
    complete: bool = False,
) -> Config:
    """Read a config with its bases and `-o` overrides; raises ConfigError with all mistakes.

    `complete`: insist on what a run needs (no required value missing, plugins and components importable), as
    `check` and `train` do.
    """
    mistakes = Mistakes()
    reader = Layers(environ, mistakes)
    layers = reader.read(path, overrides)
    for warning in reader.warnings:
        print(warning, file=sys.stderr)
    root = Merger(layers, mistakes, _expander(environ)).merge()
    schema = Schema(catalog(()))
    settler = Settler(root, schema, environ, mistakes)
    schema.catalog.plugins = _plugins(root, settler)
    settler.settle(root, ROOT)
    resolver = Resolver(root, schema, mistakes)
    plain = resolver.resolve()
    check_rules(plain, root, mistakes)
    if complete:
        from ostinato.core.check import check_complete, check_imports

        check_complete(plain, resolver, mistakes)
        check_imports(root, resolver, mistakes)
    mistakes.raise_any()
    ACTIVE_PLUGINS[:] = schema.catalog.plugins
    science = science_of(plain, Sections)
    group = {**science, "experiment": {k: v for k, v in science["experiment"].items() if k != "seed"}}
    freezer = Freezer(plain, resolver.named, resolver.places)
    return Config(
        **freezer.fields(Sections, plain, ""),
        full_hash=sha256(plain),
        science_hash=sha256(science),
        group_hash=sha256(group),
        loaded=Loaded(plain, root, schema, settler),
    )


def _expander(environ: Mapping[str, str]) -> Any:
    def expand(text: str) -> str:
        try:
            return expand_text(text, environ)
        except BadVariable:
            return text

    return expand


def _plugins(root: Merged, settler: Settler) -> tuple[str, ...]:
    """The plugins a config names, read before everything that may depend on them."""
    merged = (root.children or {}).get("plugins")
    if merged is None or not merged.is_live:
        return ()
    settler.leaf(merged, FREE)
    nodes = [merged.node, *(entry.node for entry in merged.appends)]
    items = [item for node in nodes if isinstance(node, Sequence) for item in node.items]
    return tuple(dict.fromkeys(item.text for item in items if isinstance(item, Scalar)))


def science_of(plain: Plain, cls: type[Section]) -> Plain:
    """Plain data without the fields that are not part of the science hash."""
    result = dict(plain)
    for name, field_ in fields_of(cls).items():
        if not field_.science:
            result.pop(name, None)
        elif field_.type.head == "struct" and isinstance(result.get(name), dict):
            inner = field_.type.args[0]
            result[name] = result[name] if issubclass(inner, Component) else science_of(result[name], inner)
    return result
