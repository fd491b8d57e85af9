"""Which tokens lie in which part of a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ostinato.data.chat import Span
from ostinato.data.tokenizer import Tokenizer


class TokenEdges:
    """Where in its text each token lies.

    Byte- and character-level tokenizers give a text back byte by byte, so adding up sizes is exact (the offsets of the
    `tokenizers` library are not: some processors trim white space). All others: the library's offsets.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._bytes = tokenizer.token_bytes()
        for index in np.flatnonzero(self._bytes == 0):  # special tokens, which stand for their own spelling here
            self._bytes[index] = len((tokenizer.token(int(index)) or "").encode())
        self._exact = tokenizer.is_byte_level or tokenizer.is_character_level

    def tokens_of(self, text: str, ids: np.ndarray, spans: Sequence[Span]) -> list[Span]:
        """For each span of characters, the range of tokens that lie in it."""
        if not spans:
            return []
        if self._exact:
            ends = np.cumsum(self._bytes[ids])
            if len(ids) and ends[-1] == len(text.encode()):
                to_bytes = (lambda at: at) if text.isascii() else (lambda at: len(text[:at].encode()))
                bounds = [(to_bytes(start), to_bytes(stop)) for start, stop in spans]
                return _ranges(ends - self._bytes[ids], ends, bounds)
        offsets = np.array(self._tokenizer.encode_with_offsets(text)[1], dtype=np.int64).reshape(-1, 2)
        return _ranges(offsets[:, 0], offsets[:, 1], spans)


def _ranges(starts: np.ndarray, ends: np.ndarray, spans: Sequence[Span]) -> list[Span]:
    first = np.searchsorted(starts, [start for start, _ in spans], side="left")
    behind = np.searchsorted(ends, [stop for _, stop in spans], side="right")
    return list(zip(first.tolist(), behind.tolist(), strict=True))
