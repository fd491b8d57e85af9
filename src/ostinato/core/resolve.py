"""A settled tree against the schema: every value typed, defaults filled in, every mistake noted."""

from __future__ import annotations

from typing import Any

from ostinato.core.catalog import Found
from ostinato.core.claims import spell
from ostinato.core.component_nodes import Algorithm, Model
from ostinato.core.convert import BROKEN, convert, describe
from ostinato.core.copies import value_node
from ostinato.core.look_up import look_up
from ostinato.core.merged import Merged
from ostinato.core.mistakes import NOWHERE, Mistakes, Place
from ostinato.core.nodes import Node, Scalar, Sequence, join
from ostinato.core.shapes import FREE, ROOT, Schema, Shape, chosen_algorithm
from ostinato.core.signatures import MISSING, plain_default

Plain = dict[str, Any]


class Resolver:
    """Resolves one tree."""

    def __init__(self, root: Merged, schema: Schema, mistakes: Mistakes) -> None:
        self.root, self.schema, self.mistakes = root, schema, mistakes
        self.named: dict[str, tuple[Found, Place]] = {}  # by the path of the node: what it names, and where
        self.places: dict[str, Place] = {}  # of component nodes
        self.missing: list[tuple[Place, str, str]] = []  # what only `check` and `train` insist on
        self.unused: Plain = {}  # the sections of algorithms that were not chosen

    def resolve(self) -> Plain:
        """Every section in order, then the chosen algorithm's."""
        plain: Plain = self.section(ROOT, self.root, "")
        chosen = chosen_algorithm(self.root)
        for key in [key for key, shape in (self.schema.children(ROOT, self.root) or {}).items() if shape.algorithm]:
            if key != chosen:
                self.unused[key] = plain.pop(key)
        return plain

    def section(self, shape: Shape, merged: Merged | None, path: str) -> Any:
        """The plain map of a section, a component node, or an algorithm's section."""
        if merged is not None and merged.is_live and not merged.is_map:
            self.no_map(shape, merged, path)
            return BROKEN
        if shape.component is not None:
            self.component(shape, merged, path)
        known = self.schema.children(shape, merged)
        assert known is not None
        live = merged.live if merged is not None else {}
        for key, child in live.items():
            if key not in known and merged is not None:
                self.unknown(shape, merged, child)
        return {key: self.value(inner, live.get(key), join(path, key)) for key, inner in known.items()}

    def no_map(self, shape: Shape, merged: Merged, path: str) -> None:
        """Note that a section or component node is something else."""
        assert merged.node is not None
        remedy = "Write {...} or remove it."
        if shape.component is not None and isinstance(merged.node, Scalar) and not merged.is_null:
            remedy = f"Write {path.rsplit('.', 1)[-1]}: {{{shape.component.NAME_KEY}: {merged.node.text}}}."
        self.mistakes.add(merged.node.place, path, f"expected a map, got {describe(merged.node)}. {remedy}")

    def unknown(self, shape: Shape, merged: Merged, child: Merged) -> None:
        """Note a key that the schema does not know, wherever it is written."""
        if shape is ROOT and child.path == chosen_algorithm(self.root):
            return  # the algorithm's name is the mistake
        written = [step.place for step in child.steps if step.kind != "dropped"] or [child.place]
        while shape.component is None and child.is_map and len(child.live) == 1 and written[0].file is None:
            child = next(iter(child.live.values()))  # of an `-o` the whole KEY is meant
        from ostinato.core.suggestions import unknown_key  # only when something is wrong

        text, notes = unknown_key(self.schema, self.root, shape, merged, child.path)
        for place in dict.fromkeys(written):
            self.mistakes.add(place, child.path, text, *(note for note in notes if not note.startswith(place.short)))

    def component(self, shape: Shape, merged: Merged | None, path: str) -> None:
        """Find what a component node names."""
        assert shape.component is not None
        name_key = shape.component.NAME_KEY
        self.places[path] = merged.place if merged is not None else NOWHERE
        child = merged.live.get(name_key) if merged is not None else None
        known = self.schema.children(shape, merged) or {}
        name = self.value(known[name_key], child, join(path, name_key))
        if name is None and merged is not None and shape.component not in (Model, Algorithm):
            if "sources" not in merged.live:
                text = f"{shape.component.KIND}: which one? Write {name_key}: ..."
                self.missing.append((merged.place, join(path, name_key), text))
        elif name is not None and name is not BROKEN:
            place = child.node.place if child is not None and child.node is not None else self.places[path]
            found = look_up(self.schema, shape.component.KIND, name, place, join(path, name_key), self.mistakes)
            if found is not None:
                self.named[path] = (found, place)

    def value(self, shape: Shape, merged: Merged | None, path: str) -> Any:
        """The plain value of one key."""
        if merged is not None and not merged.is_live:
            merged = None
        if merged is not None and merged.broken:
            return BROKEN
        is_struct = shape.cls is not None or shape.algorithm is not None or shape.labelled is not None
        if merged is not None and merged.appends and (is_struct or merged.is_map):
            text = "+ appends to lists only, and this is a map. Write it without +."
            self.mistakes.add(merged.appends[0].place, path, text)
            return BROKEN
        if shape.required and (merged is None or merged.is_null):
            self.required(shape, path)
            return None
        if shape.cls is not None or shape.algorithm is not None:
            is_null = shape.kind.nullable and (merged.is_null if merged is not None else shape.default is None)
            return None if is_null else self.section(shape, merged, path)
        if shape.labelled is not None:
            return self.labels(shape, merged, path)
        if merged is not None and merged.is_map:
            return self.free_map(shape, merged, path)
        node = merged.node if merged is not None else None
        if merged is not None and merged.appends:
            node = self.appended(shape, merged, path)
            if node is None:
                return BROKEN
        if merged is None or node is None:
            return BROKEN if shape.default is MISSING else plain_default(shape.default, shape.kind)
        return self.within(shape, convert(node, shape.kind, path, self.fail(merged)), merged, path)

    def fail(self, merged: Merged) -> Any:
        """Notes a mistake of type; of an `-o`, also what it would have replaced."""

        def note(place: Place, key: str, message: str) -> None:
            below = [s for s in merged.steps[:-1] if s.kind == "set" and s.entry is not None and not s.is_map]
            is_override = place.file is None and bool(below)
            notes = [f"{below[-1].place.short} sets it to {spell(below[-1].entry.node)}"] if is_override else []  # type: ignore[union-attr]
            self.mistakes.add(place, key, message, *notes)

        return note

    def within(self, shape: Shape, value: Any, merged: Merged, path: str) -> Any:
        """The value, if it is within the bounds of its field."""
        rule = shape.field.broken_rule(value) if shape.field and isinstance(value, int | float) else None
        if rule is not None and merged.node is not None:
            self.fail(merged)(merged.node.place, path, f"must be {rule}, got {value}. Write such a number.")
            return BROKEN
        return value

    def appended(self, shape: Shape, merged: Merged, path: str) -> Node | None:
        """The list that wins, or the default, with what is appended to it; None after a mistake."""
        if merged.node is None and shape.default is MISSING:
            if not self.mistakes.unread:
                text = "nothing to append to: no value and no default. Write it without +."
                self.mistakes.add(merged.appends[0].place, path, text)
            return None
        node = merged.node or value_node(shape.default, merged.appends[-1].node.place)
        for entry in merged.appends:
            if isinstance(entry.node, Sequence) and isinstance(node, Sequence):
                node = Sequence([*node.items, *entry.node.items], node.place)
                continue
            text = "+ appends to lists only, and the value is none. Write it without +."
            if not isinstance(entry.node, Sequence):
                text = f"+ appends a list, got {describe(entry.node)}. Write [...]."
            self.mistakes.add(entry.place, path, text)
            return None
        return node

    def free_map(self, shape: Shape, merged: Merged, path: str) -> Any:
        """A map with any keys."""
        inner = self.schema.inner(shape, merged, "")
        if inner is None:
            self.mistakes.add(merged.place, path, f"expected {shape.kind}, got a map. Write one value.")
            return BROKEN
        return {key: self.value(inner, child, join(path, key)) for key, child in merged.live.items()}

    def labels(self, shape: Shape, merged: Merged | None, path: str) -> Any:
        """A map from free labels to component nodes, whose name defaults to the label."""
        if merged is not None and not merged.is_map:
            return self.section(shape, merged, path)
        labels = merged.live if merged is not None else dict.fromkeys(shape.default)
        inner = {label: self.schema.inner(shape, merged, label) or FREE for label in labels}
        return {label: self.value(inner[label], child, join(path, label)) for label, child in labels.items()}

    def required(self, shape: Shape, path: str) -> None:
        """Note what `check` and `train` insist on."""
        assert shape.declared_by is not None
        owner, name = shape.declared_by
        node = path.rsplit(".", 1)[0]
        place = self.places.get(node, NOWHERE)
        self.missing.append((place, path, f"{owner.name} ({owner.origin}) needs it: {shape.kind}. Set {path}."))
