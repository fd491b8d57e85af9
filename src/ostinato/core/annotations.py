"""Annotations as data: `int | None`, read from source text or from a live object, never evaluated."""

from __future__ import annotations

import ast
import functools
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIMPLE = ("bool", "int", "float", "str", "Path", "None", "Any")
ALLOWED = "bool int float str Path None Any Literal list tuple dict and |"


class NotAType(ValueError):
    """An annotation outside the subset that options may use."""


@dataclass(frozen=True, slots=True)
class Type:
    """`head` is one of SIMPLE, or Literal (args: values), list, dict (one arg), tuple, tuple... , | (args: members),
    or struct (arg: a schema class)."""

    head: str
    args: tuple[Any, ...] = ()

    def __str__(self) -> str:
        inner = ", ".join(map(repr if self.head == "Literal" else str, self.args))
        match self.head:
            case "|":
                return " | ".join(map(str, self.args))
            case "struct":
                return "map"
            case "tuple...":
                return f"tuple[{inner}, ...]"
            case "dict":
                return f"dict[str, {inner}]"
        return f"{self.head}[{inner}]" if self.args else self.head

    @property
    def members(self) -> tuple[Type, ...]:
        """The alternatives of a union; otherwise the type alone."""
        return self.args if self.head == "|" else (self,)

    @property
    def nullable(self) -> bool:
        """Whether null is one of its values."""
        return any(member.head in ("None", "Any") for member in self.members)


ANY = Type("Any")
Classes = Callable[[str], Any]


def _no_class(name: str) -> Any:
    return None


@functools.lru_cache(None)
def parse_type(text: str, classes: Classes = _no_class) -> Type:
    """The type that a text says; `classes` finds the schema classes it may also name."""
    try:
        return from_ast(ast.parse(text, mode="eval").body, classes)
    except SyntaxError:
        raise NotAType(f"{text!r} is no annotation") from None


def from_ast(node: ast.expr, classes: Classes = _no_class) -> Type:
    """The type that an annotation in source code says."""
    match node:
        case ast.Constant(value=None):
            return Type("None")
        case ast.Constant(value=str(text)):
            return parse_type(text, classes)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            if name in SIMPLE:
                return Type(name)
            if name in ("list", "dict"):
                return Type(name, (ANY,))
            if name == "tuple":
                return Type("tuple...", (ANY,))
            if (found := classes(name)) is not None:
                return Type("struct", (found,))
        case ast.BinOp(op=ast.BitOr()):
            left, right = from_ast(node.left, classes), from_ast(node.right, classes)
            return Type("|", (*left.members, *right.members))
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
            if (found_type := _subscript(name, inner, classes)) is not None:
                return found_type
    raise NotAType(f"{ast.unparse(node)} is not built from {ALLOWED}")


def _subscript(name: str, inner: ast.expr, classes: Classes) -> Type | None:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if name == "Literal":
        return Type("Literal", tuple(ast.literal_eval(part) for part in parts))
    if name == "list" and len(parts) == 1:
        return Type("list", (from_ast(parts[0], classes),))
    if name in ("dict", "Mapping") and len(parts) == 2 and from_ast(parts[0]).head == "str":
        return Type("dict", (from_ast(parts[1], classes),))
    if name == "tuple":
        if len(parts) == 2 and isinstance(parts[1], ast.Constant) and parts[1].value is ...:
            return Type("tuple...", (from_ast(parts[0], classes),))
        return Type("tuple", tuple(from_ast(part, classes) for part in parts))
    return None


LIVE: dict[Any, Type] = {
    **{kind: Type(kind.__name__) for kind in (bool, int, float, str)},
    **{Path: Type("Path"), None: Type("None"), type(None): Type("None"), Any: ANY},
    **{list: Type("list", (ANY,)), dict: Type("dict", (ANY,)), tuple: Type("tuple...", (ANY,))},
}


def from_object(annotation: Any) -> Type:
    """The type that a live annotation says (a string, where the module postpones their evaluation)."""
    if isinstance(annotation, str):
        return parse_type(annotation)
    if isinstance(annotation, typing.Hashable) and annotation in LIVE:
        return LIVE[annotation]
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return Type("Literal", args)
    if origin in (types.UnionType, typing.Union):
        return Type("|", tuple(from_object(arg) for arg in args))
    if origin is list:
        return Type("list", (from_object(args[0]),))
    if origin is dict and args[0] is str:
        return Type("dict", (from_object(args[1]),))
    if origin is tuple and args[-1] is ...:
        return Type("tuple...", (from_object(args[0]),))
    if origin is tuple:
        return Type("tuple", tuple(map(from_object, args)))
    raise NotAType(f"{annotation!r} is not built from {ALLOWED}")
