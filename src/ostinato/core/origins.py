"""Where every value of a config comes from: the chain of a leaf, in composition order, the winner last."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from ostinato.core.annotations import ANY
from ostinato.core.claims import Claim
from ostinato.core.convert import BROKEN, convert
from ostinato.core.merged import Merged
from ostinato.core.mistakes import Place
from ostinato.core.nodes import Node, Scalar, Sequence, join
from ostinato.core.overrides import split_key
from ostinato.core.references import Settler, Unsettled
from ostinato.core.shapes import ROOT, Schema, Shape
from ostinato.core.signatures import MISSING, plain_default
from ostinato.core.variables import reference_of, uses_variable

ELEMENT = re.compile(r"(.*)\[(\d+)\]\Z")
Step = dict[str, Any]  # value, file, line, kind


class UnknownKey(KeyError):
    """A key that neither the schema nor the config has."""


class Origins:
    """The chains of one loaded config."""

    def __init__(self, root: Merged, schema: Schema, settler: Settler) -> None:
        self.root, self.schema, self.settler = root, schema, settler

    def find(self, key: str) -> tuple[Shape | None, Merged | None]:
        """Walk to a key, through what was dropped too; raises UnknownKey."""
        shape: Shape | None = ROOT
        merged: Merged | None = self.root
        for part, _ in split_key(key):
            inner = self.schema.inner(shape, merged, part) if shape is not None else None
            child = (merged.children or {}).get(part) if merged is not None else None
            if child is None and (inner is None or (inner.declared_by is None and not self._is_known(shape, part))):
                raise UnknownKey(key)
            shape, merged = inner, child
        return shape, merged

    def _is_known(self, shape: Shape | None, part: str) -> bool:
        if shape is None:
            return False
        if shape.labelled is not None:
            return part in shape.default
        return part in (self.schema.children(shape, self.root if shape is ROOT else None) or {})

    def explain(self, key: str) -> list[Step] | dict[str, list[Step]]:
        """The chain of a leaf or element; of a section, the chains of its leaves."""
        if (match := ELEMENT.match(key)) is not None:
            return self.element(*match.groups())
        shape, merged = self.find(key)
        leaves = self.leaves(shape, merged, key)
        return leaves[key] if list(leaves) == [key] else leaves

    def all(self) -> dict[str, list[Step]]:
        """Every leaf's chain."""
        return self.leaves(ROOT, self.root, "")

    def leaves(self, shape: Shape | None, merged: Merged | None, path: str) -> dict[str, list[Step]]:
        """The chains at and below a key."""
        below = self._below(shape, merged)
        found = {}
        if not below or (path and merged is not None and _was_leaf(shape, merged)):
            found[path] = self.chain(shape, merged)
        for key, (inner, child) in below.items():
            found |= self.leaves(inner, child, join(path, key))
        return found

    def _below(self, shape: Shape | None, merged: Merged | None) -> dict[str, tuple[Shape | None, Merged | None]]:
        written = dict((merged.children or {}).items()) if merged is not None else {}
        is_leaf = shape is not None and (merged is None or not merged.is_map) and shape.default is None
        known: dict[str, Shape] = {}
        if shape is not None and not is_leaf:
            known = self.schema.children(shape, merged) or {}
            if shape.labelled is not None and merged is None:
                known = {label: inner for label in shape.default if (inner := self.schema.inner(shape, None, label))}
        keys = [*known, *(key for key in written if key not in known)]
        inner_of = {key: known.get(key) or (self.schema.inner(shape, merged, key) if shape else None) for key in keys}
        return {key: (inner_of[key], written.get(key)) for key in keys}

    def chain(self, shape: Shape | None, merged: Merged | None) -> list[Step]:
        """Every step of a leaf."""
        found: list[Step] = []
        value: Any = None
        if shape is not None and _has_default(shape):
            value = plain_default(shape.default, shape.kind)
            file, line = shape.declared
            found.append({"value": value, "file": file, "line": line, "kind": "default"})
        base = value
        for step in self._ordered(merged):
            value = {} if _is_full_map(step) else self._after(step, value, base, shape)
            found.append({"value": value, "file": step.place.file, "line": step.place.line, "kind": self._kind(step)})
        return found

    @staticmethod
    def _ordered(merged: Merged | None) -> list[Claim]:
        if merged is None:
            return []
        kept = {entry.place for entry in merged.appends}  # these end the list, wherever their layer stands
        steps = [step for step in merged.steps if _is_emptied(merged) or not _is_full_map(step)]
        return sorted(steps, key=lambda step: step.kind == "append" and step.place in kept)

    def _after(self, step: Claim, value: Any, default: Any, shape: Shape | None) -> Any:
        if step.kind == "dropped" or step.entry is None:
            return None
        said = self._typed(step.entry.node, shape)
        if step.kind == "append":
            before = default if value is None else value
            return [*(before if isinstance(before, list) else []), *(said if isinstance(said, list) else [])]
        return said

    def _typed(self, node: Node, shape: Shape | None) -> Any:
        with suppress(Unsettled):  # then it is shown as written
            node = self.settler.expand(node, "")
        kind = shape.kind if shape is not None else ANY
        value = convert(node, kind, "", lambda *_: None)
        value = convert(node, ANY, "", lambda *_: None) if value is BROKEN else value
        return node.text if value is BROKEN and isinstance(node, Scalar) else value

    @staticmethod
    def _kind(step: Claim) -> str:
        if step.place.file is None:
            return "cli"
        if step.kind != "set" or step.entry is None:
            return step.kind
        if reference_of(step.entry.node) is not None:
            return "ref"
        return "env" if _uses_variable(step.entry.node) else "file"

    def element(self, key: str, index: str) -> list[Step]:
        """Where one element of the final list is written."""
        shape, merged = self.find(key)
        chain = self.chain(shape, merged)
        values = chain[-1]["value"] if chain else None
        if not isinstance(values, list) or int(index) >= len(values):
            raise UnknownKey(f"{key}[{index}]")
        value = values[int(index)]
        items: list[tuple[Place, str]] = []
        own = merged.node if merged is not None else None
        if isinstance(own, Sequence):
            kind = next((step["kind"] for step in reversed(chain) if step["kind"] not in ("append", "dropped")), "file")
            items = [(item.place, kind) for item in own.items]
        else:
            default = shape.default if shape is not None and isinstance(shape.default, list | tuple) else ()
            file, line = shape.declared if default and shape is not None else ("", 0)
            items = [(Place(file, line, 1), "default") for _ in default]
        for entry in merged.appends if merged is not None else []:
            if isinstance(entry.node, Sequence):
                items += [(item.place, "append") for item in entry.node.items]
        place, kind = items[int(index)]
        return [{"value": value, "file": place.file, "line": place.line, "kind": kind if place.file else "cli"}]


def _has_default(shape: Shape) -> bool:
    is_leaf = shape.cls is None or shape.default is None
    return is_leaf and shape.declared_by is not None and shape.default is not MISSING


def _is_full_map(step: Claim) -> bool:
    return step.kind == "set" and step.is_map and step.entry is not None and bool(step.entry.node.entries)  # type: ignore[union-attr]


def _is_emptied(merged: Merged) -> bool:
    return merged.is_map and not merged.live  # a map all of whose keys were dropped is a leaf


def _was_leaf(shape: Shape | None, merged: Merged) -> bool:
    can_be = shape is None or shape.cls is None or shape.default is None  # else it is always a map
    return (can_be and (_is_emptied(merged) or not merged.is_map)) or any(map(_is_leaf, merged.steps))


def _is_leaf(step: Claim) -> bool:
    is_copy = step.entry is not None and reference_of(step.entry.node) is not None
    return step.kind != "dropped" and not is_copy and not _is_full_map(step)


def _uses_variable(node: Node) -> bool:
    if isinstance(node, Scalar):
        return uses_variable(node.text)
    inner = node.items if isinstance(node, Sequence) else [entry.node for entry in node.entries.values()]
    return any(map(_uses_variable, inner))
