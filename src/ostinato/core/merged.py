"""The merged tree: what all layers say of each key, together, and what each of them said."""

from __future__ import annotations

from dataclasses import dataclass, field

from ostinato.core.claims import Claim
from ostinato.core.mistakes import NOWHERE, Place
from ostinato.core.nodes import Entry, Node, Scalar


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
