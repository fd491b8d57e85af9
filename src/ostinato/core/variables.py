"""`${NAME}`, `${NAME:default}`, `${NAME:-default}` in scalars, and `${ref:a.b}` told apart from them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ostinato.core.nodes import Scalar
from ostinato.core.scalars import read_plain

TOKEN = re.compile(r"\$\$\{|\$\{")
VARIABLE = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)(?:(:-|:)([^}]*))?\}")
REFERENCE = re.compile(r"\$\{ref:([^}]*)\}\Z")


class BadVariable(ValueError):
    """A variable that is not set, or a `${` that is none."""


def reference_of(node: object) -> str | None:
    """The key that a scalar refers to, if it is one reference whole."""
    if isinstance(node, Scalar) and "${ref:" in node.text and (match := REFERENCE.match(node.text)):
        return match[1]
    return None


def uses_variable(text: str) -> bool:
    """Whether an environment variable is read."""
    return "${" in text and any(token[0] == "${" for token in TOKEN.finditer(text))


def expand_text(text: str, environ: Mapping[str, str]) -> str:
    """The text with every variable inserted, once: what was inserted is not read again."""
    parts, position = [], 0
    while (token := TOKEN.search(text, position)) is not None:
        parts.append(text[position : token.start()])
        if token[0] == "$${":
            parts.append("${")
            position = token.end()
            continue
        match = VARIABLE.match(text, token.start())
        if match is None:
            if text.startswith("${ref:", token.start()):
                raise BadVariable("a reference must stand alone in its scalar. Write ${ref:section.key} alone.")
            raise BadVariable("`${` opens no variable here. Write ${NAME}, ${NAME:default}, or $${ for a literal ${.")
        parts.append(_value(match, environ))
        position = match.end()
    return "".join([*parts, text[position:]])


def _value(match: re.Match[str], environ: Mapping[str, str]) -> str:
    name, colon, default = match.groups()
    value = environ.get(name)
    if colon == ":-" and not value:
        return default or ""
    if value is not None:
        return value
    if colon is None:
        text = f"environment variable {name} is not set and has no default."
        raise BadVariable(f"{text} Set it or write ${{{name}:value}}.")
    return default or ""


def expand(node: Scalar, environ: Mapping[str, str]) -> Scalar:
    """The scalar as if the variables' texts stood there: one `${...}` whole may be any scalar, a mixture a string."""
    if "${" not in node.text:
        return node
    text = expand_text(node.text, environ)
    if not (node.plain and VARIABLE.fullmatch(node.text)):
        return Scalar(text, False, node.place)
    if not text:
        return Scalar("", False, node.place)
    stripped = text.strip()
    is_other = bool(stripped) and not isinstance(read_plain(stripped), str)
    return Scalar(stripped if is_other else text, is_other or read_plain(text) == text, node.place)
