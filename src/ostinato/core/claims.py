"""What a layer says of one key, and what a layer sees of it: claims that none dominates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ostinato.core.layers import Layer
from ostinato.core.mistakes import Place
from ostinato.core.nodes import Entry, Map, Node, Scalar, Sequence
from ostinato.core.scalar_types import scalar_value
from ostinato.core.scalars import write_key

LONGEST = 60


@dataclass(slots=True, eq=False)
class Claim:
    """One layer's word on a key. `under`: the reference over which a map is merged."""

    layer: int
    kind: Literal["set", "append", "dropped"]
    place: Place
    entry: Entry | None = None
    under: Node | None = None

    @property
    def is_map(self) -> bool:
        """Whether it sets a map, which merges with others."""
        return self.kind == "set" and self.entry is not None and isinstance(self.entry.node, Map)

    @property
    def is_null(self) -> bool:
        """Whether it sets null."""
        node = self.entry.node if self.entry else None
        return isinstance(node, Scalar) and node.plain and scalar_value(node) is None

    @property
    def noun(self) -> str:
        """What it sets, in a word."""
        names = {Map: "map", Sequence: "list", Scalar: "scalar"}
        return "null" if self.is_null or self.entry is None else names[type(self.entry.node)]


@dataclass(frozen=True, slots=True)
class Cut:
    """At and below a key a layer inherits from these bases only; an `-o` may cut off what files say."""

    bases: tuple[int, ...]
    place: Place
    files_only: bool = False


@dataclass(slots=True)
class View:
    """What holds of a key at some layer."""

    claims: list[Claim] = field(default_factory=list)
    appends: list[Claim] = field(default_factory=list)

    @property
    def is_live(self) -> bool:
        """Whether there is anything that could be dropped."""
        return bool(self.appends) or any(claim.kind != "dropped" for claim in self.claims)


def drop(layer: Layer, cut: Cut) -> Claim:
    """The claim of a layer that drops what it inherits."""
    return Claim(layer.index, "dropped", cut.place)


def dominant(views: list[View], below: list[int]) -> View:
    """Several views as one: without what is dominated."""
    if len(views) == 1:
        return View(list(views[0].claims), list(views[0].appends))
    claims = _once([claim for view in views for claim in view.claims])
    appends = _once([claim for view in views for claim in view.appends])
    dominated = 0
    for claim in claims:
        dominated |= below[claim.layer]
    return View(
        [claim for claim in claims if not dominated >> claim.layer & 1],
        [claim for claim in appends if not dominated >> claim.layer & 1],
    )


def _once(claims: list[Claim]) -> list[Claim]:
    return sorted({id(claim): claim for claim in claims}.values(), key=lambda claim: claim.layer)


def agree(claims: list[Claim]) -> bool:
    """Whether all say the same: maps merge, leaves must be equal."""
    return all(_same(claims[0], claim) for claim in claims[1:])


def _same(a: Claim, b: Claim) -> bool:
    if a.kind == "dropped" or b.kind == "dropped":
        return a.kind == b.kind
    assert a.entry is not None and b.entry is not None
    return (a.is_map and b.is_map) or equal(a.entry.node, b.entry.node)


def equal(a: Node, b: Node) -> bool:
    """Equal YAML values; numbers by value, but no bool equals a number."""
    if isinstance(a, Scalar) and isinstance(b, Scalar):
        x, y = scalar_value(a), scalar_value(b)
        return x == y and isinstance(x, bool) == isinstance(y, bool)
    if isinstance(a, Sequence) and isinstance(b, Sequence):
        return len(a.items) == len(b.items) and all(map(equal, a.items, b.items))
    if isinstance(a, Map) and isinstance(b, Map):
        same_keys = a.entries.keys() == b.entries.keys()
        return same_keys and all(equal(entry.node, b.entries[key].node) for key, entry in a.entries.items())
    return False


def spell(node: Node) -> str:
    """A node as it is written, on one line, cut to a readable length."""
    text = _spell(node)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _spell(node: Node) -> str:
    if isinstance(node, Scalar):
        return (node.text or "null") if node.plain else repr(node.text)
    if isinstance(node, Sequence):
        return f"[{', '.join(map(_spell, node.items))}]"
    return "{" + ", ".join(f"{write_key(key)}: {_spell(entry.node)}" for key, entry in node.entries.items()) + "}"


def says(claim: Claim) -> str:
    """`a.yaml:3 says 512`."""
    if claim.kind == "dropped":
        return f"{claim.place.short} drops it"
    assert claim.entry is not None
    return f"{claim.place.short} gives a map" if claim.is_map else f"{claim.place.short} says {spell(claim.entry.node)}"
