"""Documents that share a row, for models of transformers, which know of them by positions that start again at 0.

Where a model does not tell them apart by that (recurrent ones, positions of their own), each gets a row of its own.
B batch, T time, D width, R documents.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

States = Callable[[Tensor], Tensor]
"""Tokens (R, T), each row one document from column 0, to hidden states (R, T, D)."""


def begins(documents: Tensor) -> Tensor:
    """(B, T) bool: the first columns of each document, and of padding."""
    first = torch.ones_like(documents, dtype=torch.bool)
    first[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return first


def restarting(documents: Tensor) -> Tensor:
    """Positions (B, T) that start at 0 in each document, and in padding."""
    columns = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    return columns - torch.where(begins(documents), columns, 0).cummax(dim=1).values


def apart(states: States, tokens: Tensor, documents: Tensor) -> Tensor:
    """Hidden states (B, T, D), zeros in padding, of documents (B, T) that are computed in a row of their own each."""
    real = documents >= 0
    row = (begins(documents) & real).flatten().cumsum(0).view_as(documents)[real] - 1
    column = restarting(documents)[real]
    rows, width = (int(index.max()) + 1 if len(index) else 1 for index in (row, column))
    own = tokens.new_zeros((rows, width)).index_put((row, column), tokens[real])
    found = states(own)
    whole = found.new_zeros((*tokens.shape, found.shape[-1]))
    return whole.index_put((real,), found[row, column])
