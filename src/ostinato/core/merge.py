"""Layers -> one tree, by dominance: what a file says beats what its bases say; bases that differ disagree.

Every key is followed through the layers in composition order. The *view* of a layer is what is said of the key from
there down: the claims that none dominates, and the appends that no claim discards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ostinato.core.claims import Claim, Cut, View, agree, dominant, drop, says
from ostinato.core.fields import fields_of
from ostinato.core.layers import Layer
from ostinato.core.mistakes import NOWHERE, Mistakes, Place
from ostinato.core.nodes import Entry, Map, Node, Scalar, join
from ostinato.core.shapes import ROOT, Shape, declared_inner
from ostinato.core.variables import reference_of

ExpandName = Callable[[str], str]


@dataclass(slots=True)
class Merged:
    """What the layers say of one key, together."""

    path: str
    place: Place = NOWHERE  # of the key, where it was last written
    node: Node | None = None  # the leaf that wins
    children: dict[str, Merged] | None = None  # of a map, dead ones too: they have a history
    is_map: bool = False
    appends: list[Entry] = field(default_factory=list)
    steps: list[Claim] = field(default_factory=list)  # every claim, in composition order
    broken: bool = False  # a mistake took its value away
    settled: bool = False  # its variables and references are replaced by what they stand for

    @property
    def is_live(self) -> bool:
        """Whether anything is left to be said; if not, the default applies."""
        return self.node is not None or self.is_map or self.broken or bool(self.appends)

    @property
    def is_null(self) -> bool:
        """Whether it is an unquoted null."""
        node = self.node
        return isinstance(node, Scalar) and node.plain and node.text in ("", "~", "null", "Null", "NULL")

    @property
    def live(self) -> dict[str, Merged]:
        """The children that are not dead."""
        return {key: child for key, child in (self.children or {}).items() if child.is_live}


class Merger:
    """Merges the layers of one config."""

    def __init__(self, layers: list[Layer], mistakes: Mistakes, expand_name: ExpandName) -> None:
        self.layers, self.mistakes, self.expand_name = layers, mistakes, expand_name
        self.below = [layer.below for layer in layers]
        self.top = len(layers) - 1

    def merge(self) -> Merged:
        """The whole config."""
        root = Merged("", is_map=True, children={})
        self.descend(root, {layer.index: layer.root for layer in self.layers}, {}, ROOT)
        return root

    def descend(self, merged: Merged, maps: dict[int, Map], cuts: dict[int, Cut], shape: Shape) -> None:
        """All keys of a map; of a component node the name comes first, since another name drops options."""
        entries: dict[str, dict[int, Entry]] = {}
        for index, node in maps.items():
            for key, entry in node.entries.items():
                entries.setdefault(key, {})[index] = entry
        children: dict[str, Merged] = {}
        merged.children = children
        common: Iterable[str] = ()
        option_cuts = cuts
        if shape.component is not None and shape.component.NAME_KEY in entries:
            common = fields_of(shape.component)
            option_cuts = self.switches(entries[shape.component.NAME_KEY], cuts)
        for key, found in entries.items():
            inner = declared_inner(shape, key)
            child_cuts = cuts if key in common else option_cuts
            children[key] = self.key(join(merged.path, key), found, child_cuts, inner)

    def key(self, path: str, entries: dict[int, Entry], cuts: dict[int, Cut], shape: Shape) -> Merged:
        """One key."""
        result = Merged(path, max(entries.items())[1].place)
        if len(entries) == 1 and not cuts and self.alone(result, *next(iter(entries.items())), shape):
            return result
        cuts = {**cuts, **{i: Cut((), place) for i, entry in entries.items() if (place := whole(entry)) is not None}}
        views = self.views(entries, cuts, shape, result)
        maps = {i: e.node for i, e in entries.items() if isinstance(e.node, Map) and e.operator not in ("+", "~")}
        if maps:
            for i, entry in entries.items():
                if i not in maps and entry.operator != "+":
                    cuts.setdefault(i, Cut((), entry.place))  # what stands instead of the map ends all below
            self.descend(result, maps, cuts, shape)
        self.decide(result, views)
        return result

    def alone(self, result: Merged, index: int, entry: Entry, shape: Shape) -> bool:
        """The common case, without any views: one layer sets the key."""
        if entry.operator in ("+", "~"):
            return False
        result.steps.append(Claim(index, "set", entry.place, entry))
        if isinstance(entry.node, Map):
            result.is_map = True
            self.descend(result, {index: entry.node}, {}, shape)
        else:
            result.node = entry.node
        return True

    def decide(self, result: Merged, views: list[View]) -> None:
        """What the last view says: a map, a leaf, the default, or a disagreement."""
        view = views[self.top]
        claims = [claim for claim in view.claims if claim.kind != "dropped" or not any(c.is_map for c in view.claims)]
        result.appends = [claim.entry for claim in view.appends if claim.entry is not None]
        if result.broken:
            return
        if not agree(claims):
            self.disagreement(result, claims, views)
        elif claims and claims[-1].is_map:
            result.is_map = True
            result.node = claims[-1].under
        elif claims and claims[-1].kind != "dropped":
            assert claims[-1].entry is not None
            result.node = claims[-1].entry.node

    def disagreement(self, result: Merged, claims: list[Claim], views: list[View]) -> None:
        """Note it at the `_base_` of the file that joins those who disagree."""
        result.broken = True
        joins = (i for i, view in enumerate(views) if all(claim in view.claims for claim in claims))
        place = self.layers[next(joins, self.top)].base_place
        told = ", ".join(says(claim) for claim in claims)
        self.mistakes.add(place, result.path, f"bases disagree: {told}. Set it in this file or drop one base.")

    def views(self, entries: dict[int, Entry], cuts: dict[int, Cut], shape: Shape, result: Merged) -> list[View]:
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
        if leaf.is_null and shape.type.nullable:
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
        views = self.views(names, cuts, declared_inner(ROOT, ""), Merged(""))
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


def whole(entry: Entry) -> Place | None:
    """Where an entry says that everything inherited is to go."""
    if entry.operator in ("!", "~"):
        return entry.place
    return entry.node.whole if isinstance(entry.node, Map) else None
