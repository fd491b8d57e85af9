"""A vocabulary that outgrew its weights: rows of embedding and head for tokens that the weights have never seen.

A new row is the mean of the old ones (J. Hewitt, 2021, "Initializing new word embeddings for pretrained language
models"): then no new token can take more of the probability than an average old one does, so the model says what it
said before. Nothing is drawn: equal rows part with their first gradients, and a run repeats.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ostinato.core.errors import UserError
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokenizer_files import has_tokenizer

ROWS_AT_ONCE = 4096


def rows_of(origin: Any) -> int:
    """The vocabulary of an origin's model, in rows; 0 where its folder does not say, or there is no origin."""
    try:
        return 0 if origin is None else int(origin.model[1].vocab_size)
    except UserError:
        return 0


def growth(origin: Any, model: Any) -> tuple[int, int] | None:
    """(rows of the origin, rows of the model) where the model has more; None where nothing is to be added."""
    before, after = rows_of(origin), getattr(getattr(model, "inputs", None), "vocab_size", 0)
    return (before, after) if 0 < before < after else None


def with_new_rows(found: Tensor, wanted: torch.Size, grown: tuple[int, int] | None) -> Tensor:
    """`found` with as many rows as the model wants, where it is a weight of the vocabulary (V, ...), else as it is."""
    if grown is None or (found.shape[:1], wanted[:1]) != ((grown[0],), (grown[1],)) or found.shape[1:] != wanted[1:]:
        return found
    total = torch.zeros(found.shape[1:], dtype=torch.float64)
    for rows in found.split(ROWS_AT_ONCE):  # never a second copy of it in double precision
        total += rows.sum(dim=0, dtype=torch.float64).cpu()
    larger = found.new_empty(wanted)
    larger[: grown[0]] = found
    larger[grown[0] :] = (total / grown[0]).to(found.dtype)
    return larger


def check_same_tokens(tokenizer: Tokenizer, origin: Any) -> None:
    """Rows are added for tokens that are new, never for another vocabulary. Raises UserError."""
    if not has_tokenizer(origin.folder):
        return
    before = origin.tokenizer()
    for index in range(before.vocab_size):
        if (old := before.token(index)) is not None and old != (new := tokenizer.token(index)):
            raise UserError(
                f"tokenizer: {tokenizer.vocab_size:,} tokens, of which id {index} is {new!r}; for the model of "
                f"model.init_from it is {old!r}. Leave tokenizer.path out to use that model's own, and name new tokens "
                "as tokenizer.added_tokens."
            )


def describe_vocabulary(tokenizer: Tokenizer, rows: int, grown: tuple[int, int] | None) -> str | None:
    """A line for the start of a run, where tokens and rows are not the same, or rows are new."""
    tokens = tokenizer.vocab_size
    if grown is not None:
        names = [str(tokenizer.token(index)) for index in range(grown[0], min(rows, grown[0] + 5))]
        more = ", ..." if rows > grown[0] + 5 else ""
        news = f"{rows - grown[0]:,} new ({', '.join(names)}{more}), the mean of the {grown[0]:,} of init_from"
        return f"vocabulary {tokens:,} tokens, {rows:,} rows: {news}"
    if tokens < rows:
        return f"vocabulary {tokens:,} tokens, {rows:,} rows: {rows - tokens:,} are kept that no token has"
    return None
