"""Tokenizers in the formats of other tools, made small: sentencepiece models byte by byte, folders of several years."""

import json
import struct
from pathlib import Path

SPACE = "\u2581"
NASTY = [
    "",
    " ",
    "  two  spaces   three",
    "\n",
    "\n\n\ta\r\n b\n",
    "Hello world",
    " Hello  world ",
    "Grüße, 世界! 漢字かな 안녕 مرحبا",
    "👩‍👩‍👧 🏳️‍🌈 e\u0301 \u00e9 \u200b \ufeff x",
    "a</s>b <s> c<unk>d",
    "<|im_start|>user\nhi<|im_end|>\n<|im_end|> x",
    "[INST] hi [/INST] yes</s>",
    "\x00\x01\x7f \ud7ff",
    "don't can't we'll I'm 12345 3.14 1e-5",
    "def f(x):\n    return x  # 注释\n",
    "the the\u00a0the \u3000 the",
    "ﬁ ½ Ａ １",
    "<0x0A> <0xFF> \u2581 \u2581\u2581x",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
]
"""Texts that tokenizers have stumbled over."""


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number: int, value: int | float | bytes | str) -> bytes:
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def sentencepiece(
    pieces: list[tuple[str, float, int]],
    *,
    algorithm: int,
    byte_fallback: bool = True,
    dummy_prefix: bool = True,
    remove_spaces: bool = False,
    ids: tuple[int, int, int, int] = (0, 1, 2, -1),
) -> bytes:
    """The bytes of a model file, as sentencepiece writes them. `ids`: of unk, bos, eos, pad."""
    out = b"".join(field(1, field(1, text) + field(2, float(score)) + field(3, kind)) for text, score, kind in pieces)
    trainer = field(1, "corpus.txt") + field(3, algorithm) + field(4, len(pieces)) + field(35, int(byte_fallback))
    trainer += b"".join(field(40 + n, index) for n, index in enumerate(ids))
    normalizer = field(1, "identity") + field(3, int(dummy_prefix)) + field(4, int(remove_spaces)) + field(5, 1)
    return out + field(2, trainer) + field(3, normalizer)


SUBWORDS = ["th", "the", "he", f"{SPACE}t", f"{SPACE}the", f"{SPACE}h", "ll", "ell", "hell", f"{SPACE}hell", "ello",
            f"{SPACE}w", f"{SPACE}hello", "or", "wor", "ld", f"{SPACE}wor", f"{SPACE}world", SPACE * 2, SPACE * 4,
            "aa", "aaaa", "世界", "in", "ing"]  # fmt: skip
LETTERS = [SPACE, *"thelowrdinagsuH,.!'0123456789", "世", "界", "ü", "\n", "<", ">", "[", "]", "/", "I", "N", "S", "T"]


def bpe_pieces(control: list[str], defined: list[str]) -> list[tuple[str, float, int]]:
    """As the Llama and Gemma models are laid out: control, byte and user-defined pieces, subwords by rank, letters."""
    head = [(name, 0.0, 2 if name == "<unk>" else 3) for name in control]
    head += [(name, 0.0, 4) for name in defined]
    head += [(f"<0x{value:02X}>", 0.0, 6) for value in range(256)]
    body = [*SUBWORDS, *LETTERS]
    return head + [(piece, -float(rank), 1) for rank, piece in enumerate(body)]


def unigram_pieces() -> list[tuple[str, float, int]]:
    head = [("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2)]
    return head + [(piece, -1.0 - 0.37 * rank, 1) for rank, piece in enumerate([*SUBWORDS, *LETTERS])]


def write_json(folder: Path, **files: object) -> Path:
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder
