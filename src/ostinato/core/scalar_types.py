"""A scalar as a bool, an int, a float, ...: what each type takes and refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ostinato.core.annotations import Type
from ostinato.core.mistakes import nearest
from ostinato.core.nodes import Scalar
from ostinato.core.scalars import Plain, read_plain, write_scalar

YAML_TYPES = {bool: "bool", int: "int", float: "float", str: "str", type(None): "None"}
NOT_BOOLS = {
    "on": "true",
    "yes": "true",
    "y": "true",
    "1": "true",
    "off": "false",
    "no": "false",
    "n": "false",
    "0": "false",
}


class Unfit(Exception):
    """A node that is no value of the type."""


def scalar_value(node: Scalar) -> Plain:
    """A scalar as YAML reads it."""
    return read_plain(node.text) if node.plain else node.text


def _text(node: Scalar, kind: Type) -> str:
    if scalar_value(node) is None:
        raise Unfit
    return node.text


def _number(node: Scalar) -> int | float:
    value = scalar_value(node)
    if isinstance(value, str) and value:
        value = read_plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unfit
    if not math.isfinite(value):
        raise Unfit(". Write a finite number.")
    return value


def _int(node: Scalar, kind: Type) -> int:
    value = _number(node)
    if value != int(value):
        raise Unfit(". Write a whole number.")
    return int(value)


def _float(node: Scalar, kind: Type) -> float:
    try:
        return float(_number(node))
    except OverflowError:
        raise Unfit(". Write a finite number.") from None


def _bool(node: Scalar, kind: Type) -> bool:
    value = scalar_value(node)
    if isinstance(value, bool):
        return value
    meant = NOT_BOOLS.get(node.text.lower())
    raise Unfit(f". Write {meant}." if meant else ". Write true or false.")


def _none(node: Scalar, kind: Type) -> None:
    if scalar_value(node) is not None:
        raise Unfit


def spelled(value: Any) -> str:
    """A member of a Literal as it is written."""
    return value if isinstance(value, str) else write_scalar(value)


def _literal(node: Scalar, kind: Type) -> Any:
    for value in kind.args:
        if spelled(value) == node.text:
            return value
    texts = [spelled(value) for value in kind.args]
    guess = nearest(node.text, texts)
    raise Unfit(f". Write one of {', '.join(texts)}." + (f" Did you mean {guess}?" if guess else ""))


def _any(node: Scalar, kind: Type) -> Plain:
    value = scalar_value(node)
    if isinstance(value, float) and not math.isfinite(value):
        raise Unfit(". Write a finite number.")
    return value


SCALARS: dict[str, Callable[[Scalar, Type], Any]] = {
    "str": _text,
    "Path": _text,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "None": _none,
    "Literal": _literal,
    "Any": _any,
}
