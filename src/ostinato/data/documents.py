"""From rows of text to documents of tokens: encoded in batches on all cores, each ended by the tokenizer's eos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ostinato.core.errors import UserError
from ostinato.data.receipt import Receipt
from ostinato.data.source import Source
from ostinato.data.token_writer import TokenWriter, prepared
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokens import TokenShards

PIECE = 1 << 16
BATCH = 1 << 21
"""Characters: long texts are encoded in pieces of at least PIECE, about BATCH at a time."""


def prepare_documents(source: Source, tokenizer: Tokenizer, cache: Path, label: str) -> tuple[TokenShards, Receipt]:
    """Every row's text as one document, and what became of the rows (`tokens` counted, labels not)."""
    identity = {"format": "documents", "source": source.fingerprint, "tokenizer": tokenizer.fingerprint}

    def fill(writer: TokenWriter) -> dict[str, object]:
        receipt = Receipt(label)
        end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
        for ids in _encoded(source, tokenizer, receipt):
            writer.add(np.concatenate([ids, np.array(end, dtype=ids.dtype)]))
        return receipt.to_dict()

    shards = prepared(cache, identity, tokenizer.vocab_size, fill)
    receipt = Receipt(**{**shards.notes, "label": label, "tokens": shards.total})
    if shards.total < 2:
        raise UserError(f"{label}: its {receipt.rows} rows hold no text to train on. Check the path and the pattern.")
    return shards, receipt


def pieces(text: str, size: int = PIECE) -> list[str]:
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


def _encoded(source: Source, tokenizer: Tokenizer, receipt: Receipt) -> Iterator[np.ndarray]:
    waiting: list[int] = []  # rows whose texts make up a batch
    texts: list[list[str]] = []
    characters = 0
    cuttable = tokenizer.is_byte_level or tokenizer.is_character_level
    for index in range(len(source)):
        receipt.rows += 1
        text = _text(source, index)
        if not text:
            receipt.drop("empty", source.place(index))
            continue
        receipt.used += 1
        waiting.append(index)
        texts.append(pieces(text) if cuttable else [text])
        characters += len(text)
        if characters >= BATCH:
            yield from _flush(source, tokenizer, waiting, texts)
            waiting, texts, characters = [], [], 0
    yield from _flush(source, tokenizer, waiting, texts)


def _flush(
    source: Source, tokenizer: Tokenizer, rows: Sequence[int], texts: Sequence[Sequence[str]]
) -> Iterator[np.ndarray]:
    try:  # text that spells a special token stays text
        encoded = iter(tokenizer.encode_batch([part for parts in texts for part in parts], special=False))
    except UserError:
        for row, parts in zip(rows, texts, strict=True):  # which row was it?
            try:
                tokenizer.encode_batch(parts, special=False)
            except UserError as error:
                raise UserError(f"{source.place(row)}: {error}") from error
        raise
    for parts in texts:
        yield np.concatenate([np.array(next(encoded), dtype=np.int64) for _ in parts])


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
