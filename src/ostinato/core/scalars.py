"""Scalars by YAML 1.2's core schema and nothing more: `1e-5` is a float; `on`, `1:30` and `1_000` are strings."""

from __future__ import annotations

import re

Plain = bool | int | float | str | None

NULLS = {"", "~", "null", "Null", "NULL"}
BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
NOT_FINITE = {f"{sign}.{name}": float(f"{sign}inf") for sign in ("", "+", "-") for name in ("inf", "Inf", "INF")}
NOT_FINITE |= dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan"))
NUMBER = re.compile(
    r"(?P<int>[-+]?[0-9]+)\Z|0o(?P<octal>[0-7]+)\Z|0x(?P<hex>[0-9a-fA-F]+)\Z"
    r"|(?P<float>[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)\Z"
)
BASES = {"int": 10, "octal": 8, "hex": 16}
LONGEST = 3500  # beyond, Python refuses to write an integer; such a text stays a string


def read_plain(text: str) -> Plain:
    """The value of a plain (unquoted) scalar."""
    if text in NULLS:
        return None
    if text in BOOLS:
        return BOOLS[text]
    if text[0] not in "+-.0123456789" or len(text) > LONGEST:
        return text
    if (match := NUMBER.match(text)) is None:
        return NOT_FINITE.get(text, text)
    kind = match.lastgroup or "float"
    return int(match[kind], BASES[kind]) if kind in BASES else float(text)


SAFE = re.compile(r"[A-Za-z_/.][A-Za-z0-9_/.@-]*\Z")  # plain for every reader of YAML, unless it is one of these
TAKEN = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", ".inf", ".nan", ".", "..."}
SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}


def _escape(character: str) -> str:
    if character in SHORT_ESCAPES:
        return SHORT_ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quote(text: str) -> str:
    """A double-quoted YAML scalar."""
    return '"' + "".join(map(_escape, text)) + '"'


def is_safe(text: str) -> bool:
    """Whether every reader of YAML takes the unquoted text as this string."""
    return bool(SAFE.match(text)) and text.lower() not in TAKEN and read_plain(text) == text


def write_scalar(value: Plain) -> str:
    """The YAML of a value: floats in their shortest form, strings quoted where they would read as something else."""
    if isinstance(value, str):
        return value if is_safe(value) else quote(value.replace("${", "$${"))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def write_key(key: str) -> str:
    """The YAML of a key: quoted where it would be an operator or read as something else than text."""
    return key if is_safe(key) and not key.startswith("_") else quote(key)
