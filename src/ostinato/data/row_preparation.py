"""Rows encoded once into token shards with a mask; what cannot be trained on is found here, before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from ostinato.core.errors import UserError
from ostinato.data.encoding import Encoded, RowEncoder, TrainedTokens
from ostinato.data.formats import DataOptions
from ostinato.data.row_reading import CONVERSATIONS, EmptyResponse, Parts, Reading
from ostinato.data.rows import RowError
from ostinato.data.source import Row, Source
from ostinato.data.token_writer import TokenWriter, prepared
from ostinato.data.tokens import TokenShards
from ostinato.data.unusable_rows import MISTAKES_SHOWN, UnusableRows

VERSION = 2
ROWS_AT_ONCE = 1024


@dataclass
class Outcome:
    """What became of the rows, by their numbers: kept with the shards, the receipt is made of it."""

    rows: int = 0
    dropped: dict[str, list[int]] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    remarks: dict[str, list[int]] = field(default_factory=dict)
    numbers: list[float] = field(default_factory=list)
    """Of each used row, the number that its format keeps beside its tokens; empty where it keeps none."""
    kind: str = ""
    """What all the rows are: "messages", "prompt and response", ..."""

    def is_of(self, kind: str, row: Row) -> None:
        """Note the kind of a row. Raises RowError where it is not that of the rows before."""
        self.kind = self.kind or kind
        if kind != self.kind:
            raise RowError(
                f"the keys {', '.join(map(str, row))} are {kind}, and the rows before are {self.kind}. One dataset "
                "holds one kind: name its columns, or make several of it (data.train.sources)."
            )


def prepare_rows(source: Source, options: DataOptions, reading: Reading = CONVERSATIONS) -> TokenShards:
    """As `encode_rows`, and something of it can be trained on. Raises UserError."""
    shards = encode_rows(source, options, reading)
    if not shards.documents:
        dropped = shards.notes["dropped"]
        reasons = ", ".join(f"{len(rows):,} {reason}" for reason, rows in dropped.items())
        raise UserError(f"all {len(source):,} rows were dropped: {reasons}. Nothing is left to train on.")
    return shards


def encode_rows(source: Source, options: DataOptions, reading: Reading = CONVERSATIONS) -> TokenShards:
    """The shards of a source, from the cache where they are; `notes` is an Outcome. Raises UnusableRows."""
    tokenizer = options.tokenizer
    identity = {
        "kind": reading.kind,
        "encoding": VERSION,
        "source": source.fingerprint,
        "tokenizer": tokenizer.fingerprint,
        "sequence_length": options.sequence_length,
        "train_on": options.train_on,
        "overlong": options.overlong,
        "on_empty": options.on_empty,
    }
    preparation = _Preparation(source, options, reading)
    return prepared(options.cache, identity, tokenizer.vocab_size, preparation.fill, masked=True)


class _Preparation:
    """One pass over the rows."""

    def __init__(self, source: Source, options: DataOptions, reading: Reading) -> None:
        self._source, self._options, self._reading = source, options, reading
        self._outcome = Outcome(len(source))
        self._mistakes: list[tuple[str, str]] = []
        self._remedies: dict[str, None] = {}
        self._rows_read = 0

    def fill(self, writer: TokenWriter) -> dict[str, Any]:
        """Write every usable row; the Outcome as plain values."""
        encoder = RowEncoder(self._options.tokenizer, self._options.train_on)
        for numbers, rows in self._chunks():
            for number, (parts, documents) in zip(numbers, self._encode(encoder, rows), strict=True):
                if isinstance(documents, EmptyResponse):
                    self._empty(number, "empty response", str(documents))
                elif isinstance(documents, RowError):
                    self._mistake(number, str(documents))
                else:
                    self._write(writer, number, parts, documents)
            if len(self._mistakes) > MISTAKES_SHOWN:
                break
        if self._mistakes:
            raise UnusableRows(self._mistakes, list(self._remedies), self._rows_read)
        return asdict(self._outcome)

    def _encode(self, encoder: RowEncoder, rows: list[Row]) -> Iterator[tuple[Parts, list[Encoded] | RowError]]:
        """Each row's documents, or why it has none."""
        parts = [self._parts_or_error(row) for row in rows]
        encoded = iter(encoder.encode([row for one in parts if isinstance(one, Parts) for row in one.rows]))
        for one in parts:
            if isinstance(one, RowError):
                yield Parts([]), one
                continue
            documents: list[Encoded] = []
            problem: RowError | None = None
            for document in (next(encoded) for _ in one.rows):
                if isinstance(document, RowError):
                    problem = problem or document
                else:
                    documents.append(document)
            yield one, problem or self._checked(documents)

    def _parts_or_error(self, row: Row) -> Parts | RowError:
        try:
            parts = self._reading.parts_of(row)
            self._outcome.is_of(parts.kind, row)
        except RowError as error:
            return error
        return parts

    def _checked(self, documents: list[Encoded]) -> list[Encoded] | RowError:
        try:
            self._reading.check(documents)
        except RowError as error:
            return error
        return documents

    def _write(self, writer: TokenWriter, number: int, parts: Parts, documents: list[Encoded]) -> None:
        if (ready := self._ready(number, documents)) is None:
            return
        for document in ready:
            writer.add(document.ids, document.trained)
        if parts.number is not None:
            self._outcome.numbers.append(parts.number)
        for remark in dict.fromkeys([*parts.remarks, *(remark for one in documents for remark in one.remarks)]):
            self._outcome.remarks.setdefault(remark, []).append(number)

    def _chunks(self) -> Iterator[tuple[list[int], list[Row]]]:
        for start in range(0, len(self._source), ROWS_AT_ONCE):
            numbers, rows = [], []
            self._rows_read = min(start + ROWS_AT_ONCE, len(self._source))
            for number in range(start, self._rows_read):
                try:
                    rows.append(self._source[number])
                    numbers.append(number)
                except UserError as error:  # says its place itself
                    self._mistakes.append(("", str(error)))
            yield numbers, rows

    def _ready(self, number: int, documents: list[Encoded]) -> list[TrainedTokens] | None:
        """The row's documents as they are trained on, whole or cut; None where it is dropped or a mistake."""
        limit, longest = self._options.sequence_length, max(len(one.ids) for one in documents)
        for one in documents:
            if not one.trained.any():
                self._empty(number, "no trained token", f"nothing of its {len(one.ids)} tokens is trained on")
                return None
        if longest > limit and self._options.overlong == "drop":
            self._outcome.dropped.setdefault(f"longer than {limit} tokens", []).append(number)
            return None
        ready = [TrainedTokens(one.ids[:limit], one.trained[:limit]) for one in documents]
        for one, cut in zip(documents, ready, strict=True):
            if not cut.trained.any():
                self._remedies["Raise data.sequence_length, or set data.overlong: drop."] = None
                what = f"nothing of the first {limit} of its {len(one.ids)} tokens is trained on"
                self._empty(number, f"no trained token in the first {limit}", what)
                return None
        if longest > limit:
            self._outcome.cut.append(number)
        return ready

    def _empty(self, number: int, reason: str, mistake: str) -> None:
        if self._options.on_empty == "drop":
            self._outcome.dropped.setdefault(reason, []).append(number)
        else:
            self._remedies["data.on_empty: drop leaves such rows out."] = None
            self._mistake(number, mistake)

    def _mistake(self, number: int, what: str) -> None:
        self._mistakes.append((self._source.place(number), what))
