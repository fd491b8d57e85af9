"""How many bytes of text each token stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tokenizers


def token_sizes(backend: tokenizers.Tokenizer, vocab_size: int, *, byte_level: bool) -> np.ndarray:
    """(V,) int64: UTF-8 bytes of each id's text; special tokens and ids without a token 0."""
    sizes = np.zeros(vocab_size, dtype=np.int64)
    for token, index in backend.get_vocab(with_added_tokens=False).items():
        sizes[index] = len(token) if byte_level else _text_bytes(token)
    for index, added in backend.get_added_tokens_decoder().items():
        sizes[index] = 0 if added.special else len(added.content.encode())
    return sizes


def _text_bytes(token: str) -> int:
    """UTF-8 length of a SentencePiece-like token: `▁` is a space, `<0x0A>` one byte."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return 1
    return len(token.replace("\u2581", " ").encode())
