"""Options are the keyword-only arguments of a constructor: read from source text, or from the live object."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ostinato.core.annotations import ANY, NotAType, Type, from_ast, from_object


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a component. A default of MISSING: it is required."""

    name: str
    type: Type
    default: Any = MISSING
    line: int = 0

    @property
    def required(self) -> bool:
        """Whether the option has no default."""
        return self.default is MISSING


class BadSignature(ValueError):
    """A signature that cannot be a schema; `line` in its file (0: unknown)."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


def read_signature(node: ast.stmt) -> dict[str, Option]:
    """The options of a class or function in source code."""
    if isinstance(node, ast.ClassDef):
        own = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        if not own:
            return {}
        node = own[-1]
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    if node.args.kwarg is not None:
        raise BadSignature(f"**{node.args.kwarg.arg} hides the options. Name each one.", node.lineno)
    options = {}
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if argument.annotation is None:
            raise BadSignature(f"the option {argument.arg} has no annotation. Write its type.", argument.lineno)
        try:
            kind = from_ast(argument.annotation)
            value = MISSING if default is None else ast.literal_eval(default)
        except NotAType as error:
            raise BadSignature(f"the option {argument.arg}: {error}.", argument.lineno) from None
        except ValueError:
            text = f"the default of {argument.arg} is not a literal. Write the value itself, or None."
            raise BadSignature(text, argument.lineno) from None
        options[argument.arg] = Option(argument.arg, kind, value, argument.lineno)
    return options


def signature_of(target: Any) -> dict[str, Option]:
    """The options of a live class or function."""
    function = target.__dict__.get("__init__") if inspect.isclass(target) else target
    if function is None:
        return {}
    options = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            raise BadSignature(f"**{parameter.name} hides the options. Name each one.")
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        if parameter.annotation is parameter.empty:
            raise BadSignature(f"the option {parameter.name} has no annotation. Write its type.")
        try:
            kind = from_object(parameter.annotation)
        except NotAType as error:
            raise BadSignature(f"the option {parameter.name}: {error}.") from None
        default = MISSING if parameter.default is parameter.empty else parameter.default
        if not is_literal(default):
            raise BadSignature(f"the default of {parameter.name} is not a literal. Write the value itself, or None.")
        options[parameter.name] = Option(parameter.name, kind, default)
    return options


def is_literal(value: Any) -> bool:
    """Whether a default is plain data."""
    if isinstance(value, list | tuple):
        return all(map(is_literal, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_literal(item) for key, item in value.items())
    return value is MISSING or value is None or isinstance(value, bool | int | float | str)


def refuse_names(options: Iterable[Option], common: Iterable[str]) -> None:
    """Options may not be called like the fields every node of their kind has."""
    taken = set(common)
    for option in options:
        if option.name in taken:
            text = f"the option {option.name} is called like a field that every node of this kind has. Rename it."
            raise BadSignature(text, option.line)


def plain_default(value: Any, kind: Type = ANY) -> Any:
    """A default as plain data of its type."""
    if isinstance(value, list | tuple):
        return [plain_default(item) for item in value]
    if isinstance(value, dict):
        return {key: plain_default(item) for key, item in value.items()}
    heads = {member.head for member in kind.members}
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_whole and "float" in heads and "int" not in heads else value


def thaw(value: Any, kind: Type = ANY) -> Any:
    """A frozen value as its annotation says: lists where the constructor expects lists."""
    if kind.head == "|" and value is not None:
        wanted = ("dict", "Any") if hasattr(value, "items") else ("list", "tuple", "tuple...", "Any")
        kind = next((member for member in kind.args if member.head in wanted), ANY)
    if isinstance(value, tuple):
        if kind.head == "tuple":
            return tuple(thaw(item, inner) for item, inner in zip(value, kind.args, strict=True))
        items = [thaw(item, kind.args[0] if kind.args else ANY) for item in value]
        return tuple(items) if kind.head == "tuple..." else items
    if hasattr(value, "items"):
        return {key: thaw(item, kind.args[0] if kind.args else ANY) for key, item in value.items()}
    return value
