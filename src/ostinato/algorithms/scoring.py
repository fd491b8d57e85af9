"""What a model says of the trained tokens of a batch: the one call that nearly every algorithm makes."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from ostinato.data.batches import TokenBatch


def scored(model: Any, rows: TokenBatch, want: Set[str] = frozenset(), *, temperature: float = 1.0) -> Any:
    """TokenScores of the trained tokens, (N,) each; `temperature` is the one that they were sampled at."""
    places = rows.tokens, rows.positions, rows.documents
    return model(*places, labels=rows.labels, trained=rows.trained, temperature=temperature, want=want)
