"""From rows of text to documents of tokens: encoded in batches on all cores, each ended by the tokenizer's eos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ostinato.core.errors import UserError
from ostinato.data.receipt import Receipt
from ostinato.data.source import Source, origin_of
from ostinato.data.token_writer import TokenWriter, prepared
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokens import TokenShards

PIECE = 1 << 16
BATCH = 1 << 21
"""Characters: long texts are encoded in pieces of at least PIECE, about BATCH at a time."""


def prepare_documents(source: Source, tokenizer: Tokenizer, cache: Path, label: str) -> tuple[TokenShards, Receipt]:
    """Every row's text as one document, and what became of the rows (`tokens` counted, labels not)."""
    shards = encode_documents(source, tokenizer, cache, label)
    told = {"label": label, "tokens": shards.total, "kind": "text", "origin": origin_of(source)}
    receipt = Receipt(**{**shards.notes, **told})
    if shards.total < 2:
        raise UserError(f"{label}: its {receipt.rows} rows hold no text to train on. Check the path and the pattern.")
    return shards, receipt


def encode_documents(source: Source, tokenizer: Tokenizer, cache: Path, label: str) -> TokenShards:
    """The documents of a source, from the cache where they are; `notes` is a receipt of its rows."""
    identity = {"format": "documents", "source": source.fingerprint, "tokenizer": tokenizer.fingerprint}

    def fill(writer: TokenWriter) -> dict[str, object]:
        receipt = Receipt(label)
        end = np.array([] if tokenizer.eos_id is None else [tokenizer.eos_id], dtype=writer.dtype)
        for ids in _encoded(source, tokenizer, receipt, writer.dtype):
            writer.add(np.concatenate([ids, end]))
        return receipt.to_dict()

    return prepared(cache, identity, tokenizer.vocab_size, fill)


def pieces(text: str, size: int) -> list[str]:
    """Consecutive parts of at least `size` characters whose tokens, end to end, are those of the whole.

    Cut between a single line break and the visible character after it, where no splitting into words joins the two.
    """
    parts, start = [], 0
    while (cut := _cut(text, start + size)) is not None:
        parts.append(text[start:cut])
        start = cut
    return [*parts, text[start:]]


def _cut(text: str, position: int) -> int | None:
    while 0 < (found := text.find("\n", max(position, 1))) < len(text) - 1:
        if not text[found - 1].isspace() and not text[found + 1].isspace():
            return found + 1
        position = found + 1
    return None


class _Piece(NamedTuple):
    """A part of the text of a row."""

    row: int
    text: str
    last: bool


def _encoded(source: Source, tokenizer: Tokenizer, receipt: Receipt, dtype: np.dtype) -> Iterator[np.ndarray]:
    """The ids of each document; one that is much larger than BATCH is never encoded in one go."""
    parts: list[np.ndarray] = []
    for batch in _batches(_pieces(source, tokenizer, receipt)):
        for piece, ids in zip(batch, _encode(source, tokenizer, batch), strict=True):
            parts.append(np.array(ids, dtype=dtype))
            if piece.last:
                yield parts[0] if len(parts) == 1 else np.concatenate(parts)
                parts = []


def _pieces(source: Source, tokenizer: Tokenizer, receipt: Receipt) -> Iterator[_Piece]:
    cuttable = tokenizer.is_byte_level or tokenizer.is_character_level
    for index in range(len(source)):
        receipt.rows += 1
        text = _text(source, index)
        if not text:
            receipt.drop("empty", source.place(index))
            continue
        receipt.used += 1
        parts = pieces(text, PIECE) if cuttable else [text]
        yield from (_Piece(index, part, number == len(parts) - 1) for number, part in enumerate(parts))


def _batches(parts: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    batch, characters = [], 0
    for part in parts:
        batch.append(part)
        characters += len(part.text)
        if characters >= BATCH:
            yield batch
            batch, characters = [], 0
    yield batch


def _encode(source: Source, tokenizer: Tokenizer, batch: Sequence[_Piece]) -> list[list[int]]:
    try:  # text that spells a special token stays text
        return tokenizer.encode_batch([piece.text for piece in batch], special=False)
    except UserError:
        for piece in batch:  # which row was it?
            try:
                tokenizer.encode(piece.text, special=False)
            except UserError as error:
                raise UserError(f"{source.place(piece.row)}: {error}") from error
        raise


def _text(source: Source, index: int) -> str:
    row = source[index]
    text = row.get("text")
    if not isinstance(text, str):
        found = ", ".join(row) if text is None else f"a {type(text).__name__} there"
        raise UserError(
            f"{source.place(index)}: no string under 'text' (found {found}). Pre-training reads rows of text: "
            "name the column that holds it, or choose an algorithm for conversations."
        )
    return text
