"""The rows of a source as samples, as they are: for whatever needs no tokens."""

from __future__ import annotations

from collections.abc import Callable

from ostinato.core.manifest import hash_of
from ostinato.data.receipt import Receipt
from ostinato.data.source import Row, Source, origin_of

SHOWN = 2


class SourceSamples:
    """The rows `chosen` of a source (None: all), each one sample; `describe` shows a row in the receipt.

    Example:
        class Pictures(SampleFormat):
            tokenized = False

            def prepare(self, source, label):
                return SourceSamples(label, source, self.describe)
    """

    def __init__(self, label: str, source: Source, describe: Callable[[Row], str], chosen: range | None = None) -> None:
        self.label, self.source, self.describe = label, source, describe
        self.chosen = range(len(source)) if chosen is None else chosen
        self.fingerprint = hash_of(["as it is", source.fingerprint, self.chosen.start, self.chosen.stop])
        first = [describe(self[index]) for index in range(min(SHOWN, len(self)))]
        self.receipt = Receipt(label, rows=len(self), used=len(self), first=first, origin=origin_of(source))

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Row:
        return self.source[self.chosen[index]]

    def length(self, index: int) -> int:
        """0: it holds no tokens."""
        return 0

    def place(self, index: int) -> str:
        """Where the row comes from."""
        return self.source.place(self.chosen[index])

    def split(self, fraction: float) -> tuple[SourceSamples, SourceSamples]:
        """(train, held out): the first int(n * (1 - fraction)) of the n rows, and the rest."""
        cut = int(len(self) * (1 - fraction))
        held_out = f"{self.label} (held out)"
        return self._part(self.label, self.chosen[:cut]), self._part(held_out, self.chosen[cut:])

    def _part(self, label: str, chosen: range) -> SourceSamples:
        return SourceSamples(label, self.source, self.describe, chosen)
