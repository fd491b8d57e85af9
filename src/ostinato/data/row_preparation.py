"""Rows encoded once into token shards with a mask; what cannot be trained on is found here, before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from ostinato.core.errors import UserError
from ostinato.data.encoding import Encoded, RowEncoder
from ostinato.data.formats import DataOptions
from ostinato.data.rows import RowError
from ostinato.data.source import Row, Source
from ostinato.data.token_writer import TokenWriter, prepared
from ostinato.data.tokens import TokenShards

VERSION = 1
ROWS_AT_ONCE = 1024
MISTAKES_SHOWN = 10


@dataclass
class Outcome:
    """What became of the rows, by their numbers: kept with the shards, the receipt is made of it."""

    rows: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    remarks: dict[str, list[int]] = field(default_factory=dict)


class UnusableRows(UserError):
    """Rows that cannot be trained on, each with its place, and the remedies."""

    def __init__(self, mistakes: list[str], remedies: list[str], rows_read: int) -> None:
        shown = mistakes[:MISTAKES_SHOWN]
        rest = [f"... and {len(mistakes) - len(shown)} more"] if len(mistakes) > len(shown) else []
        head = f"of the {rows_read:,} rows read, {len(mistakes)} cannot be trained on:"
        super().__init__("\n".join([head, *shown, *rest, *remedies]))


def prepare_rows(source: Source, options: DataOptions) -> TokenShards:
    """The shards of a source, from the cache where they are; `notes` is an Outcome. Raises UnusableRows."""
    tokenizer = options.tokenizer
    identity = {
        "kind": "conversations",
        "encoding": VERSION,
        "source": source.fingerprint,
        "tokenizer": tokenizer.fingerprint,
        "sequence_length": options.sequence_length,
        "train_on": options.train_on,
        "overlong": options.overlong,
        "on_empty": options.on_empty,
    }
    preparation = _Preparation(source, options)
    return prepared(options.cache, identity, tokenizer.vocab_size, preparation.fill, masked=True)


class _Preparation:
    """One pass over the rows."""

    def __init__(self, source: Source, options: DataOptions) -> None:
        self._source, self._options = source, options
        self._outcome = Outcome(len(source))
        self._mistakes: list[str] = []
        self._remedies: dict[str, None] = {}
        self._rows_read = 0

    def fill(self, writer: TokenWriter) -> dict[str, Any]:
        """Write every usable row; the Outcome as plain values."""
        encoder = RowEncoder(self._options.tokenizer, self._options.train_on)
        for numbers, rows in self._chunks():
            for number, encoded in zip(numbers, encoder.encode(rows), strict=True):
                if isinstance(encoded, RowError):
                    self._mistake(number, str(encoded))
                elif (ready := self._ready(number, encoded)) is not None:
                    writer.add(ready.ids, ready.trained)
            if len(self._mistakes) > MISTAKES_SHOWN:
                break
        if self._mistakes:
            raise UnusableRows(self._mistakes, list(self._remedies), self._rows_read)
        if (dropped := sum(map(len, self._outcome.dropped.values()))) == self._outcome.rows:
            reasons = ", ".join(f"{len(rows):,} {reason}" for reason, rows in self._outcome.dropped.items())
            raise UserError(f"all {dropped:,} rows were dropped: {reasons}. Nothing is left to train on.")
        return asdict(self._outcome)

    def _chunks(self) -> Iterator[tuple[list[int], list[Row]]]:
        for start in range(0, len(self._source), ROWS_AT_ONCE):
            numbers, rows = [], []
            self._rows_read = min(start + ROWS_AT_ONCE, len(self._source))
            for number in range(start, self._rows_read):
                try:
                    rows.append(self._source[number])
                    numbers.append(number)
                except UserError as error:  # says its place itself
                    self._mistakes.append(str(error))
            yield numbers, rows

    def _ready(self, number: int, encoded: Encoded) -> Encoded | None:
        """The row as it is trained on: whole or cut; None where it is dropped or a mistake."""
        limit, size = self._options.sequence_length, len(encoded.ids)
        if not encoded.trained.any():
            self._empty(number, "no trained token", f"nothing of its {size} tokens is trained on")
            return None
        if size > limit and self._options.overlong == "drop":
            self._outcome.dropped.setdefault(f"longer than {limit} tokens", []).append(number)
            return None
        ready = Encoded(encoded.ids[:limit], encoded.trained[:limit], encoded.remarks)
        if not ready.trained.any():
            self._remedies["Raise data.sequence_length, or set data.overlong: drop."] = None
            what = f"nothing of the first {limit} of its {size} tokens is trained on"
            self._empty(number, f"no trained token in the first {limit}", what)
            return None
        if size > limit:
            self._outcome.cut.append(number)
        for remark in encoded.remarks:
            self._outcome.remarks.setdefault(remark, []).append(number)
        return ready

    def _empty(self, number: int, reason: str, mistake: str) -> None:
        if self._options.on_empty == "drop":
            self._outcome.dropped.setdefault(reason, []).append(number)
        else:
            self._remedies["data.on_empty: drop leaves such rows out."] = None
            self._mistake(number, mistake)

    def _mistake(self, number: int, what: str) -> None:
        self._mistakes.append(f"{self._source.place(number)}: {what}")
