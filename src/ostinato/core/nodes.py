"""YAML as nodes that know where they are written: no Python object is ever made of a file."""

from __future__ import annotations

from dataclasses import dataclass, field

from ostinato.core.mistakes import Place


@dataclass(slots=True)
class Scalar:
    """A scalar as written. `plain` = neither quoted nor a block: only then it may be anything but a string."""

    text: str
    plain: bool
    place: Place


@dataclass(slots=True)
class Sequence:
    """A list."""

    items: list[Node]
    place: Place


@dataclass(slots=True)
class Map:
    """A map. `whole` is the place of its `_delete_: true`; `special` are `_base_` and `_hash_` of a file."""

    entries: dict[str, Entry]
    place: Place
    whole: Place | None = None
    special: dict[str, Entry] = field(default_factory=dict)


@dataclass(slots=True)
class Entry:
    """A key of a map with its operator: "" or one of `+` (append), `!` (replace whole), `~` (delete)."""

    key: str
    operator: str
    place: Place
    node: Node


Node = Scalar | Sequence | Map


def join(path: str, key: str) -> str:
    """`section.key`; a key with a dot is quoted."""
    key = f'"{key}"' if "." in key or not key else key
    return f"{path}.{key}" if path else key
