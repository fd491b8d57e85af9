"""A sentencepiece model file (`tokenizer.model`) read from its bytes (protobuf): the fields that decide ids.

Field numbers: sentencepiece's `sentencepiece_model.proto`. Fields not read here (training data, sizes) decide no id.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ostinato.core.errors import UserError

UNIGRAM, BPE = 1, 2
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
MODEL_TYPES = {UNIGRAM: "unigram", BPE: "bpe", 3: "word", 4: "char"}


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary; its place in the file is its id."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class SentencePieceModel:
    """What of a model decides ids. Ids are -1 where the model has no such token."""

    pieces: list[Piece]
    algorithm: int
    byte_fallback: bool
    unk_id: int
    bos_id: int
    eos_id: int
    pad_id: int
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool

    def spelling(self, index: int) -> str | None:
        """The piece of an id; None for -1 or one that is not there."""
        return self.pieces[index].text if 0 <= index < len(self.pieces) else None


def read_sentencepiece(file: Path) -> SentencePieceModel:
    """Raises UserError where the file is no such model, is cut off, or is of a kind without subwords."""
    try:
        return _model(file.read_bytes())
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise UserError(
            f"{file}: not a sentencepiece model ({error or type(error).__name__}). A tiktoken file of that name, one "
            "that is cut off, or a git-lfs pointer cannot be read: give the folder's tokenizer.json."
        ) from error


def _model(data: bytes) -> SentencePieceModel:
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(data):
        if number == 1:
            pieces.append(_piece(_bytes(value)))
        elif number == 2:
            trainer |= dict(_fields(_bytes(value)))
        elif number == 3:
            normalizer |= dict(_fields(_bytes(value)))
    algorithm = _integer(trainer, 3, UNIGRAM)
    if not pieces:
        raise ValueError("it has no pieces")
    if algorithm not in (UNIGRAM, BPE):
        raise ValueError(f"its model type is {MODEL_TYPES.get(algorithm, algorithm)}; unigram and bpe can be read")
    return SentencePieceModel(
        pieces,
        algorithm,
        byte_fallback=bool(_integer(trainer, 35, 0)),
        unk_id=_integer(trainer, 40, 0),
        bos_id=_integer(trainer, 41, 1),
        eos_id=_integer(trainer, 42, 2),
        pad_id=_integer(trainer, 43, -1),
        charsmap=_bytes(normalizer.get(2, b"")),
        add_dummy_prefix=bool(_integer(normalizer, 3, 1)),
        remove_extra_whitespaces=bool(_integer(normalizer, 4, 1)),
    )


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    score = struct.unpack("<f", _bytes(fields[2]))[0] if 2 in fields else 0.0
    return Piece(_bytes(fields.get(1, b"")).decode(), score, _integer(fields, 3, NORMAL))


def _integer(fields: dict[int, int | bytes], number: int, default: int) -> int:
    """An int32 or enum; negative ones are written as 64 bits in two's complement."""
    value = fields.get(number, default)
    if not isinstance(value, int):
        raise ValueError(f"field {number} is no number")
    return value - (1 << 64) if value >= 1 << 63 else value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where a message belongs")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field: an int for wire type 0, bytes for 1 (8), 2 (length in front) and 5 (4)."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {at}")
        if at + size > len(data):
            raise ValueError(f"it ends within a field of {size} bytes")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number of more than ten bytes at byte {at}")
