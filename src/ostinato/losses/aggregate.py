"""From losses of tokens to the loss of a step: a sum, divided once by what the whole step holds.

token_mean as the code of DAPO (arXiv:2503.14476), sequence_mean as GRPO (arXiv:2402.03300), fixed_length as Dr. GRPO
(arXiv:2503.20783). N trained tokens, S sequences of a micro-batch.
"""

from typing import Literal

import torch
from torch import Tensor

from ostinato.core.types import Totals


def aggregate(
    values: Tensor,
    sequence: Tensor,
    lengths: Tensor,
    totals: Totals,
    *,
    how: Literal["token_mean", "sequence_mean", "fixed_length", "sequence_sum"],
    max_new_tokens: int | None = None,
) -> Tensor:
    """The micro-batch's share of the step's loss, a scalar: shares add up over micro-batches and ranks.

    values (N,), sequence (N,) int64 in [0, S), lengths (S,) trained tokens of each sequence; `totals` of the step.
    token_mean: sum / tokens; sequence_mean: sum of means over sequences / sequences; sequence_sum: sum / sequences;
    fixed_length: sum / (sequences max_new_tokens). Without tokens 0, with a graph.
    """
    if how == "token_mean":
        return values.sum() / totals.tokens
    if how == "sequence_mean":
        return (values / lengths[sequence]).sum() / totals.sequences
    if how == "sequence_sum":
        return values.sum() / totals.sequences
    if how != "fixed_length":
        raise ValueError(f"how: {how!r} is none of token_mean, sequence_mean, fixed_length, sequence_sum")
    if max_new_tokens is None:
        raise ValueError("fixed_length divides by max_new_tokens, which is not given")
    return values.sum() / (totals.sequences * max_new_tokens)


def sum_by_sequence(values: Tensor, sequence: Tensor, sequences: int) -> Tensor:
    """(N,) numbers of tokens added up by sequence: (S,). In fp64, so that long sequences lose nothing."""
    total = torch.zeros(sequences, dtype=torch.float64, device=values.device)
    return total.index_add(0, sequence, values.double()).to(values.dtype)
