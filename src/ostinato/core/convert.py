"""One winning node -> the plain value (what JSON can say) of its type. Conversion happens here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ostinato.core.annotations import ANY, Type
from ostinato.core.mistakes import Place
from ostinato.core.nodes import Map, Node, Scalar, Sequence, join
from ostinato.core.scalar_types import SCALARS, YAML_TYPES, Unfit, scalar_value, spelled

LONGEST = 60  # of a value in a message
Fail = Callable[[Place, str, str], None]  # place, key, message


class _Broken:
    def __repr__(self) -> str:
        return "BROKEN"


BROKEN: Any = _Broken()  # a value that a mistake took away


def describe(node: Node) -> str:
    """What a node is, for messages: `bool true`, `str 'abc'`, `a list`."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Map):
        return "a map"
    value = scalar_value(node)
    if value is None:
        return "null"
    text = repr(value) if isinstance(value, str) else node.text
    return f"{YAML_TYPES[type(value)]} {text if len(text) <= LONGEST else text[: LONGEST - 3] + '...'}"


def convert(node: Node, kind: Type, path: str, fail: Fail) -> Any:
    """The plain value of `node` as `kind`; every mistake is told to `fail`, and BROKEN returned."""
    head = kind.head
    if head in ("list", "tuple", "tuple...") and isinstance(node, Sequence):
        return _items(node, kind, path, fail)
    if head == "dict" and isinstance(node, Map):
        return _map(node, kind.args[0], path, fail)
    if head == "Any" and not isinstance(node, Scalar):
        return (
            _items(node, Type("list", (ANY,)), path, fail)
            if isinstance(node, Sequence)
            else _map(node, ANY, path, fail)
        )
    if head == "|":
        return _union(node, kind, path, fail)
    try:
        if not isinstance(node, Scalar) or head not in SCALARS:
            raise Unfit
        return SCALARS[head](node, kind)
    except Unfit as reason:
        fail(node.place, path, _message(node, kind, str(reason)))
        return BROKEN


def _message(node: Node, kind: Type, reason: str) -> str:
    if kind.head == "list" and isinstance(node, Scalar):
        reason = reason or f". Write [{node.text}]."
    return f"expected {kind}, got {describe(node)}{reason}"


def _items(node: Sequence, kind: Type, path: str, fail: Fail) -> Any:
    if kind.head == "tuple" and len(node.items) != len(kind.args):
        fail(node.place, path, f"expected {kind}, got a list of {len(node.items)}. Write {len(kind.args)} elements.")
        return BROKEN
    kinds = kind.args if kind.head == "tuple" else kind.args * len(node.items)
    pairs = enumerate(zip(node.items, kinds, strict=True))
    values = [convert(item, inner, f"{path}[{i}]", fail) for i, (item, inner) in pairs]
    return BROKEN if BROKEN in values else values


def _map(node: Map, inner: Type, path: str, fail: Fail) -> Any:
    values = {}
    for key, entry in node.entries.items():
        if entry.operator in ("~", "+"):
            fail(entry.place, join(path, key), f"{entry.operator} has nothing to work on inside a list. Remove it.")
            return BROKEN
        values[key] = convert(entry.node, inner, join(path, key), fail)
    return BROKEN if BROKEN in values.values() else values


def _union(node: Node, kind: Type, path: str, fail: Fail) -> Any:
    exact = [member for member in kind.args if is_exactly(node, member)]
    others = [member for member in kind.args if member not in exact]
    complaints: list[tuple[Place, str, str]] = []
    for member in [*exact, *others]:
        before = len(complaints)
        value = convert(node, member, path, lambda *complaint: complaints.append(complaint))
        if len(complaints) == before:
            return value
    if len(exact) == 1:  # the shape is right, something inside is not
        return convert(node, exact[0], path, fail)
    present = [member for member in kind.args if member.head != "None"]
    fail(node.place, path, complaints[0][2] if len(present) == 1 and complaints else _message(node, kind, ""))
    return BROKEN


def is_exactly(node: Node, kind: Type) -> bool:
    """Whether the YAML type of the node is that of `kind`, without any conversion."""
    if isinstance(node, Sequence):
        return kind.head in ("list", "tuple", "tuple...")
    if isinstance(node, Map):
        return kind.head in ("dict", "struct")
    if kind.head == "Literal":
        return any(spelled(value) == node.text and type(value) is type(scalar_value(node)) for value in kind.args)
    return YAML_TYPES[type(scalar_value(node))] == kind.head


def fits(value: Any, kind: Type) -> bool:
    """Whether plain data is a value of a type, as conversion left it."""
    match kind.head:
        case "Any":
            return True
        case "Literal":
            return any(value == other and type(value) is type(other) for other in kind.args)
        case "list" | "tuple...":
            return isinstance(value, list) and all(fits(item, kind.args[0]) for item in value)
        case "tuple":
            is_long = isinstance(value, list) and len(value) == len(kind.args)
            return is_long and all(map(fits, value, kind.args))
        case "dict":
            return isinstance(value, dict) and all(fits(item, kind.args[0]) for item in value.values())
        case "struct":
            return isinstance(value, dict)
        case "Path":
            return isinstance(value, str)
        case "|":
            return any(fits(value, member) for member in kind.args)
    return YAML_TYPES[type(value)] == kind.head if type(value) in YAML_TYPES else False
