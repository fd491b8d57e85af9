"""The frozen text of a config: written so that it reloads to itself, opened by a hash that proves it unchanged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ostinato.core.annotations import ANY
from ostinato.core.convert import convert
from ostinato.core.mistakes import Mistakes
from ostinato.core.nodes import Map, Node, Scalar, Sequence
from ostinato.core.reader import Source, read_text
from ostinato.core.scalars import write_key, write_scalar
from ostinato.core.variables import uses_variable


def sha256(plain: Any) -> str:
    """SHA-256 of the canonical JSON of plain data; `-0.0` counts as `0.0`."""
    text = json.dumps(_normal(plain), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _normal(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_normal(item) for item in value]
    return value + 0.0 if isinstance(value, float) else value


def frozen_text(plain: Mapping[str, Any], full_hash: str) -> str:
    """The `config.yaml` that a run keeps."""
    return f"_hash_: {full_hash}\n" + "".join(_block(plain, ""))


def _block(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, item in value.items():
        start = f"{indent}{write_key(key)}:"
        if isinstance(item, dict) and item:
            yield start + "\n"
            yield from _block(item, indent + "  ")
        else:
            yield f"{start} {flow(item)}\n"


def flow(value: Any) -> str:
    """Plain data on one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{write_key(key)}: {flow(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(flow, value)) + "]" if isinstance(value, list) else write_scalar(value)


def read_frozen(path: Path) -> dict[str, Any]:
    """The plain values of a frozen file, without any of its components; ConfigError if it is not what was frozen."""
    mistakes = Mistakes()
    root = read_text(path.read_text("utf-8"), Source(str(path)), mistakes)
    mistakes.raise_any()
    if not isinstance(root, Map) or "_hash_" not in root.special:
        mistakes.add(Source(str(path)).place(), "_hash_", "missing: this is no frozen config.")
    else:
        prove(root, mistakes)
    mistakes.raise_any()
    return _unescaped(convert(root, ANY, "", lambda *_: None))  # type: ignore[arg-type]  # a proved root is a map


def prove(root: Map, mistakes: Mistakes) -> None:
    """Refuse a frozen file whose own values do not give its hash."""
    entry = root.special.get("_hash_")
    if entry is None:
        return
    stated = entry.node.text if isinstance(entry.node, Scalar) else ""
    complaints: list[Any] = []
    plain = convert(root, ANY, "", lambda *complaint: complaints.append(complaint))
    if complaints or "_base_" in root.special or not _is_literal(root) or sha256(_unescaped(plain)) != stated:
        text = "this file was changed after it was frozen. To use it as an ordinary config, delete its `_hash_` line."
        mistakes.add(entry.node.place, "_hash_", text)


def _is_literal(node: Node) -> bool:
    if isinstance(node, Map):
        return node.whole is None and all(not e.operator and _is_literal(e.node) for e in node.entries.values())
    return all(map(_is_literal, node.items)) if isinstance(node, Sequence) else not uses_variable(node.text)


def _unescaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unescaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unescaped(item) for item in value]
    return value.replace("$${", "${") if isinstance(value, str) else value
