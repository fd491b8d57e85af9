"""Several prepared sources end to end, as one: what a mixture holds out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from ostinato.core.manifest import hash_of
from ostinato.data.formats import Item, Samples
from ostinato.data.receipt import PLACES_SHOWN, Receipt


class Joined:
    """The samples of the first part, then those of the second, ..."""

    def __init__(self, label: str, parts: Sequence[Samples]) -> None:
        self.label, self.parts = label, [part for part in parts if len(part)]
        self.fingerprint = hash_of([part.fingerprint for part in self.parts])
        self._ends = list(accumulate(len(part) for part in self.parts))
        self.receipt = _sum(label, [part.receipt for part in self.parts])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Item:
        part, inside = self._find(index)
        return part[inside]

    def length(self, index: int) -> int:
        part, inside = self._find(index)
        return part.length(inside)

    def place(self, index: int) -> str:
        part, inside = self._find(index)
        return part.place(inside)

    def split(self, fraction: float) -> tuple[Joined, Joined]:
        """Each part gives its own end."""
        halves = [part.split(fraction) for part in self.parts]
        return Joined(self.label, [a for a, _ in halves]), Joined(f"{self.label} (held out)", [b for _, b in halves])

    def _find(self, index: int) -> tuple[Samples, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.label} has {len(self)} samples, no number {index}")
        number = bisect_right(self._ends, index)
        return self.parts[number], index - (self._ends[number - 1] if number else 0)


def _sum(label: str, receipts: Sequence[Receipt]) -> Receipt:
    total = Receipt(label, first=[sample for one in receipts for sample in one.first[:1]])
    for name in ("kind", "origin"):
        setattr(total, name, " and ".join(dict.fromkeys(getattr(one, name) for one in receipts if getattr(one, name))))
    for one in receipts:
        total.rows += one.rows
        total.used += one.used
        total.truncated += one.truncated
        total.tokens += one.tokens
        total.trained_tokens += one.trained_tokens
        for mine, theirs in ((total.dropped, one.dropped), (total.remarks, one.remarks)):
            for reason, count in theirs.items():
                mine[reason] = mine.get(reason, 0) + count
        for reason, places in one.places.items():
            total.places[reason] = [*total.places.get(reason, []), *places][:PLACES_SHOWN]
    return total
