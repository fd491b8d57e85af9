"""Layers -> one tree, by dominance: what a file says beats what its bases say; bases that differ disagree."""

from __future__ import annotations

from collections.abc import Iterable

from ostinato.core.claims import Claim, Cut, View, agree, says
from ostinato.core.fields import fields_of
from ostinato.core.layers import Layer
from ostinato.core.merged import Merged
from ostinato.core.mistakes import Mistakes, Place
from ostinato.core.nodes import Entry, Map, join
from ostinato.core.shapes import ROOT, Shape, declared_inner
from ostinato.core.views import ExpandName, Views


class Merger:
    """Merges the layers of one config."""

    def __init__(self, layers: list[Layer], mistakes: Mistakes, expand_name: ExpandName) -> None:
        self.layers, self.mistakes = layers, mistakes
        self.views = Views(layers, mistakes, expand_name)

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
            option_cuts = self.views.switches(entries[shape.component.NAME_KEY], cuts)
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
        views = self.views.of(entries, cuts, shape, result)
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
        view = views[-1]
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
        place = self.layers[next(joins, -1)].base_place
        told = ", ".join(says(claim) for claim in claims)
        self.mistakes.add(place, result.path, f"bases disagree: {told}. Set it in this file or drop one base.")


def whole(entry: Entry) -> Place | None:
    """Where an entry says that everything inherited is to go."""
    if entry.operator in ("!", "~"):
        return entry.place
    return entry.node.whole if isinstance(entry.node, Map) else None
