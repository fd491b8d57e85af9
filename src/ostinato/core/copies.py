"""Copies of parts of a merged tree, for references: changing the copy never changes the source."""

from __future__ import annotations

from typing import Any

from ostinato.core.merged import Merged
from ostinato.core.mistakes import NOWHERE, Place
from ostinato.core.nodes import Entry, Map, Node, Scalar, Sequence, join
from ostinato.core.scalars import write_scalar
from ostinato.core.shapes import FREE, Schema, Shape, component_name
from ostinato.core.signatures import MISSING


def value_node(value: Any, place: Place) -> Node:
    """Plain data as a node."""
    if isinstance(value, dict):
        return Map({key: Entry(key, "", place, value_node(item, place)) for key, item in value.items()}, place)
    if isinstance(value, list | tuple):
        return Sequence([value_node(item, place) for item in value], place)
    if value is MISSING:
        return Scalar("null", True, place)
    return Scalar(value, False, place) if isinstance(value, str) else Scalar(write_scalar(value), True, place)


def value_tree(value: Any, path: str, place: Place) -> Merged:
    """Plain data as a merged tree."""
    if isinstance(value, dict):
        children = {key: value_tree(item, join(path, key), place) for key, item in value.items()}
        return Merged(path, place, children=children, is_map=True)
    return Merged(path, place, value_node(value, place))


def placed(node: Node, place: Place) -> Node:
    """A copy of a node, as if it were written at `place`."""
    if isinstance(node, Scalar):
        return Scalar(node.text, node.plain, place)
    if isinstance(node, Sequence):
        return Sequence([placed(item, place) for item in node.items], place)
    return Map({key: Entry(key, "", place, placed(e.node, place)) for key, e in node.entries.items()}, place)


def copy_of(
    source: Merged | None, shape: Shape, schema: Schema, path: str, place: Place, *, with_defaults: bool
) -> Merged:
    """A settled key as if it were written at `place`. The name of a component is always spelled out."""
    is_struct = shape.cls is not None or shape.algorithm is not None
    if source is not None and source.node is not None and not source.is_map:
        return Merged(path, place, placed(_with_appends(source.node, source), place))
    if not is_struct and shape.labelled is None and (source is None or not source.is_map):
        return Merged(path, place, placed(_with_appends(value_node(shape.default, place), source), place))
    if source is None and shape.default is None:
        return value_tree(None, path, place)
    copy = Merged(path, place, children={}, is_map=True)
    assert copy.children is not None
    known = schema.children(shape, source) or {}
    live = source.live if source is not None else {}
    if shape.labelled is not None and source is None:
        known = {label: schema.inner(shape, None, label) or FREE for label in shape.default}
        live = {}
    for key in [*known, *(key for key in live if key not in known)]:
        is_name = shape.component is not None and key == shape.component.NAME_KEY
        if key in live or with_defaults or is_name or shape.labelled is not None:
            inner = known.get(key) or schema.inner(shape, source, key) or FREE
            copy.children[key] = copy_of(
                live.get(key), inner, schema, join(path, key), place, with_defaults=with_defaults
            )
            if is_name and key not in live:
                copy.children[key] = value_tree(component_name(shape, source), join(path, key), place)
    return copy


def _with_appends(node: Node, source: Merged | None) -> Node:
    extra = [item for e in (source.appends if source else []) if isinstance(e.node, Sequence) for item in e.node.items]
    return Sequence([*node.items, *extra], node.place) if extra and isinstance(node, Sequence) else node


def node_of(source: Merged | None, shape: Shape, schema: Schema) -> Node:
    """A settled key as one node, defaults included."""
    return _to_node(copy_of(source, shape, schema, "", NOWHERE, with_defaults=True))


def _to_node(merged: Merged) -> Node:
    if merged.node is not None:
        return merged.node
    children = merged.children or {}
    return Map({key: Entry(key, "", merged.place, _to_node(child)) for key, child in children.items()}, merged.place)


def lay_over(copy: Merged, own: Merged) -> None:
    """Merge into a copied map what is written below the reference."""
    assert copy.children is not None
    for key, child in (own.children or {}).items():
        below = copy.children.get(key)
        if not child.is_live:
            if child.steps and child.steps[-1].kind == "dropped":
                copy.children.pop(key, None)
        elif below is not None and below.is_map and child.is_map:
            lay_over(below, child)
        else:
            child.steps = [*(below.steps if below is not None else []), *child.steps]
            copy.children[key] = child
