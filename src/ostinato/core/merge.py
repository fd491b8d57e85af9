"""Layers into one tree."""

from __future__ import annotations

from dataclasses import dataclass, field

from ostinato.core.mistakes import NOWHERE, Place
from ostinato.core.nodes import Entry, Map, Node, join


@dataclass(slots=True)
class Merged:
    """What the layers say of one key, together. Neither `children` nor `node`: the default applies."""

    path: str
    place: Place = NOWHERE  # of the key, where it was written last
    node: Node | None = None  # the winning leaf
    children: dict[str, Merged] | None = None  # of a map
    appends: list[Entry] = field(default_factory=list)
    broken: bool = False  # a mistake took its value away


def merge(maps: list[Map]) -> Merged:
    """All layers in composition order."""
    root = Merged("", children={})
    for layer in maps:
        _over(root, layer)
    return root


def _over(target: Merged, layer: Map) -> None:
    assert target.children is not None
    for key, entry in layer.entries.items():
        if entry.operator == "~":
            target.children.pop(key, None)
            continue
        child = target.children.get(key)
        if child is None or entry.operator == "!":
            child = target.children[key] = Merged(join(target.path, key), entry.place)
        child.place = entry.place
        if isinstance(entry.node, Map):
            if child.children is None or entry.node.whole:
                child.children, child.node = {}, None
            _over(child, entry.node)
        elif entry.operator == "+":
            child.appends.append(entry)
        else:
            child.node, child.children, child.appends = entry.node, None, []
