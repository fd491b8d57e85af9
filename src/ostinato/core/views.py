"""Dominance: what every layer sees of one key, and what another component name drops."""

from __future__ import annotations

from collections.abc import Callable

from ostinato.core.claims import Claim, Cut, View, dominant, drop
from ostinato.core.layers import Layer
from ostinato.core.merged import Merged
from ostinato.core.mistakes import Mistakes
from ostinato.core.nodes import Entry, Scalar
from ostinato.core.shapes import FREE, Shape
from ostinato.core.variables import reference_of

ExpandName = Callable[[str], str]


class Views:
    """The *view* of a layer is what holds of a key from there down: the claims that none dominates, and the appends
    that no claim discards."""

    def __init__(self, layers: list[Layer], mistakes: Mistakes, expand_name: ExpandName) -> None:
        self.layers, self.mistakes, self.expand_name = layers, mistakes, expand_name
        self.below = [layer.below for layer in layers]

    def of(self, entries: dict[int, Entry], cuts: dict[int, Cut], shape: Shape, result: Merged) -> list[View]:
        """The view of every layer, in composition order."""
        views: list[View] = []
        for layer in self.layers:
            entry, cut = entries.get(layer.index), cuts.get(layer.index)
            if entry is None and cut is None and len(layer.bases) == 1:
                views.append(views[layer.bases[0]])
                continue
            inherited = dominant([views[base] for base in layer.bases], self.below)
            view = inherited
            if cut is not None:
                view = self.cut(layer, cut, inherited, views)
            if entry is None:
                result.steps += [claim for claim in view.claims if claim.layer == layer.index]
            else:
                view = self.say(layer, entry, view, inherited, shape, result)
            views.append(view)
        return views

    def cut(self, layer: Layer, cut: Cut, inherited: View, views: list[View]) -> View:
        """What is left of the inherited view; a drop is a claim where nothing else is left."""
        if cut.files_only:
            is_override = [other.is_override for other in self.layers]
            kept = View(
                [claim for claim in inherited.claims if is_override[claim.layer]],
                [claim for claim in inherited.appends if is_override[claim.layer]],
            )
        else:
            kept = dominant([views[base] for base in cut.bases], self.below)
        if kept.is_live:
            return kept
        return View([drop(layer, cut)], []) if inherited.is_live else inherited

    def say(self, layer: Layer, entry: Entry, view: View, inherited: View, shape: Shape, result: Merged) -> View:
        """The view of a layer that says something of the key itself."""
        if entry.operator == "~":
            deletable = View([c for c in inherited.claims if not self.layers[c.layer].is_override], inherited.appends)
            if not (deletable if layer.is_override else inherited).is_live and not self.mistakes.unread:
                who = "no file" if layer.is_override else "no base"
                self.mistakes.add(entry.place, result.path, f"nothing to delete: {who} sets it.")
            claim = Claim(layer.index, "dropped", entry.place)
            result.steps.append(claim)
            return View([claim], [])
        if entry.operator == "+":
            claim = Claim(layer.index, "append", entry.place, entry)
            result.steps.append(claim)
            return View(view.claims, [*view.appends, claim])
        claim = Claim(layer.index, "set", entry.place, entry)
        old = next((c for c in view.claims if c.kind == "set" and c.is_map != claim.is_map), None)
        if claim.is_map and old is not None:
            assert old.entry is not None
            claim.under = old.entry.node if reference_of(old.entry.node) is not None else None
        elif claim.is_map:
            claim.under = next((c.under for c in view.claims if c.under is not None), None)
        if old is not None and claim.under is None:
            self.shapes_clash(claim, old, shape, result)
        result.steps.append(claim)
        return View([claim], [])

    def shapes_clash(self, claim: Claim, old: Claim, shape: Shape, result: Merged) -> None:
        """A map over a scalar or list, or these over a map: a mistake, unless one is a null that may stand there."""
        assert claim.entry is not None and old.entry is not None
        leaf = claim if old.is_map else old
        assert leaf.entry is not None
        if leaf.is_null and shape.kind.nullable:
            return
        here, there = claim.noun, old.noun
        key = claim.entry.key
        value = leaf.entry.node.text if isinstance(leaf.entry.node, Scalar) and leaf is claim else None
        inner = f"{{name: {value}}}" if shape.component is not None and value else "{...}"
        remedy = f"Write {key}: {inner}, or {key}!: to replace it." if old.is_map else f"Write {key}!: to replace it."
        text = f"a {here} here, but {old.place.short} gives a {there}. {remedy}"
        self.mistakes.add(claim.place, result.path, text)
        result.broken = True

    def switches(self, names: dict[int, Entry], cuts: dict[int, Cut]) -> dict[int, Cut]:
        """The layers that write another component name than one of their bases, and what of it they still inherit."""
        seen: list[set[str]] = []  # per layer: the names that hold there
        views = self.of(names, cuts, FREE, Merged(""))
        for view in views:
            nodes = [c.entry.node for c in view.claims if c.entry is not None and isinstance(c.entry.node, Scalar)]
            seen.append({self.expand_name(node.text) for node in nodes})
        found = dict(cuts)
        for index, entry in names.items():
            if index in cuts and not cuts[index].bases and not cuts[index].files_only:
                continue
            if entry.operator in ("", "!") and isinstance(entry.node, Scalar):
                name, layer = self.expand_name(entry.node.text), self.layers[index]
                if layer.is_override:
                    file = max(other.index for other in self.layers if not other.is_override)
                    if seen[file] - {name}:
                        found[index] = Cut((), entry.place, files_only=True)
                    continue
                kept = tuple(self.kept(layer.bases, name, seen))
                if kept != layer.bases:
                    found[index] = Cut(kept, entry.place)
        return found

    def kept(self, bases: tuple[int, ...], name: str, seen: list[set[str]]) -> list[int]:
        """The bases whose options stay: a base in which several names stand is taken apart."""
        result: list[int] = []
        for base in bases:
            if not seen[base] - {name}:
                result.append(base)
            elif len(seen[base]) > 1:
                result += self.kept(self.layers[base].bases, name, seen)
        return result
