"""The merged tree settled: variables expanded, and every `${ref:a.b}` replaced by a copy of what stands at a.b."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ostinato.core.claims import Claim
from ostinato.core.copies import copy_of, lay_over, node_of, placed
from ostinato.core.fields import fields_of
from ostinato.core.merged import Merged
from ostinato.core.mistakes import Mistakes, Place
from ostinato.core.nodes import Entry, Map, Node, Scalar, Sequence, join
from ostinato.core.overrides import BadKey, split_key
from ostinato.core.shapes import FREE, ROOT, Schema, Shape
from ostinato.core.variables import BadVariable, expand, reference_of


class Unsettled(Exception):
    """A reference or variable without a value; it has been noted, if it is to be."""


class Settler:
    """Settles one merged tree in place. References are taken once, after all layers."""

    def __init__(self, root: Merged, schema: Schema, environ: Mapping[str, str], mistakes: Mistakes) -> None:
        self.root, self.schema, self.environ, self.mistakes = root, schema, environ, mistakes
        self.open: list[str] = []  # the keys whose references are being followed

    def settle(self, merged: Merged, shape: Shape) -> None:
        """A key and all below it."""
        self.leaf(merged, shape)
        if merged.children:
            self.name(merged, shape)
            for key, child in merged.children.items():
                if child.is_live:
                    self.settle(child, self.schema.inner(shape, merged, key) or FREE)

    def name(self, merged: Merged | None, shape: Shape) -> None:
        """The name of a component node, before anything that depends on it; of the whole, the algorithm's."""
        if merged is None or not merged.children:
            return
        if shape is ROOT:
            self.name(merged.children.get("algorithm"), self.schema.inner(ROOT, None, "algorithm") or FREE)
        elif shape.component is not None and (child := merged.children.get(shape.component.NAME_KEY)) is not None:
            if reference_of(child.node) is not None and not child.broken:
                assert child.node is not None
                text = "the name of a component cannot be a reference. Write the name."
                self.mistakes.add(child.node.place, child.path, text)
                child.broken = True
            self.leaf(child, FREE)

    def leaf(self, merged: Merged, shape: Shape) -> None:
        """The key's own value, and what is appended to it."""
        if merged.settled or merged.broken:
            return
        if merged.path in self.open:
            raise Unsettled(merged.path)
        self.open.append(merged.path)
        try:
            if (target := reference_of(merged.node)) is not None:
                assert merged.node is not None
                self.copy(merged, shape, target, merged.node.place)
            elif merged.node is not None:
                merged.node = self.expand(merged.node, merged.path)
            merged.appends = [replace(e, node=self.expand(e.node, merged.path)) for e in merged.appends]
        except Unsettled:
            merged.broken = True
        finally:
            self.open.pop()
        merged.settled = True

    def expand(self, node: Node, path: str) -> Node:
        """A node with its variables expanded and the references inside it followed."""
        if isinstance(node, Sequence):
            items = [self.expand(item, f"{path}[{i}]") for i, item in enumerate(node.items)]
            return Sequence(items, node.place)
        if isinstance(node, Map):
            inner = {key: self.expand(entry.node, join(path, key)) for key, entry in node.entries.items()}
            return Map({key: replace(entry, node=inner[key]) for key, entry in node.entries.items()}, node.place)
        if (target := reference_of(node)) is not None:
            merged, shape = self.target(target, node.place, path)
            return placed(node_of(merged, shape, self.schema), node.place)
        try:
            return expand(node, self.environ)
        except BadVariable as error:
            self.mistakes.add(node.place, path, str(error))
            raise Unsettled from None

    def copy(self, merged: Merged, shape: Shape, target: str, place: Place) -> None:
        """Put a copy of the target here, and over it what later layers write below."""
        source, source_shape = self.target(target, place, merged.path)
        is_typed = shape.cls is not None or shape.labelled is not None
        copy = copy_of(source, source_shape, self.schema, merged.path, place, with_defaults=not is_typed)
        own = merged.live
        merged.node, merged.is_map = copy.node, copy.is_map
        if not copy.is_map:
            if own:
                text = f"a map here, but the reference to {target} gives none. Replace it with an operator: `key!:`."
                self.mistakes.add(merged.place, merged.path, text)
                raise Unsettled
            return
        common = set(fields_of(shape.component)) if shape.component is not None else None
        name_key = shape.component.NAME_KEY if shape.component is not None else ""
        claims = [s for s in merged.steps if s.entry is not None and reference_of(s.entry.node) == target]
        for key, child in (copy.children or {}).items():
            _mark(child, key, join(target, key), claims[-1])
        if common is not None and name_key in own:
            self.leaf(own[name_key], FREE)
            before, after = (copy.children or {}).get(name_key), own[name_key]
            if before is not None and getattr(before.node, "text", None) != getattr(after.node, "text", None):
                copy.children = {key: child for key, child in (copy.children or {}).items() if key in common}
        lay_over(copy, merged)
        merged.children = copy.children

    def target(self, target: str, place: Place, path: str) -> tuple[Merged | None, Shape]:
        """What stands at a key, settled, with its shape (None: its default)."""
        try:
            found, shape = self.find(target)
            if found is not None:
                self.follow(found, shape)
            return found, shape
        except KeyError:
            if not self.mistakes.unread:
                from ostinato.core.suggestions import unknown_target  # only when something is wrong

                text = unknown_target(self.schema, self.root, target)
                self.mistakes.add(place, path, f"nothing stands at {target}. {text}")
            raise Unsettled from None
        except Unsettled as error:
            if error.args:
                chain = [*self.open[self.open.index(error.args[0]) :], error.args[0]]
                text = f"cycle of references: {' -> '.join(chain)}. Write one of the values out."
                self.mistakes.add(place, path, text)
            raise Unsettled from None

    def follow(self, merged: Merged, shape: Shape) -> None:
        """Settle a target whole; broken parts break what refers to it."""
        self.leaf(merged, shape)
        if merged.broken:
            raise Unsettled
        self.name(merged, shape)
        for key, child in merged.live.items():
            self.follow(child, self.schema.inner(shape, merged, key) or FREE)

    def find(self, target: str) -> tuple[Merged | None, Shape]:
        """Walk to a key; raises KeyError when nothing stands there."""
        merged: Merged | None = self.root
        shape = ROOT
        try:
            parts = [name for name, _ in split_key(target)]
        except BadKey:
            raise KeyError(target) from None
        for part in parts:
            if merged is not None and merged is not self.root:
                self.leaf(merged, shape)
                if merged.broken:
                    raise Unsettled
            self.name(merged, shape)
            inner = self.schema.inner(shape, merged, part)
            child = merged.live.get(part) if merged is not None else None
            if inner is None or (child is None and not _has_default(shape, inner, part, merged)):
                raise KeyError(target)
            merged, shape = child, inner
        return merged, shape


def _has_default(shape: Shape, inner: Shape, key: str, merged: Merged | None) -> bool:
    if shape.labelled is not None:
        return key in shape.default and (merged is None or not merged.is_live)
    return inner.declared_by is not None or inner.algorithm is not None or inner.cls is not None


def _mark(merged: Merged, key: str, target: str, claim: Claim) -> None:
    """The history of a copied key begins with the reference, as if each key were referred to by itself."""
    merged.settled = True
    entry = Entry(key, "", claim.place, Scalar(f"${{ref:{target}}}", True, claim.place))
    merged.steps = [Claim(claim.layer, "set", claim.place, entry)]
    for inner, child in (merged.children or {}).items():
        _mark(child, inner, join(target, inner), claim)
