"""How much likelier the policy makes what was sampled than the policy that the rollout began with.

By token (PPO, arXiv:1707.06347), or one number for a whole sequence (GSPO, arXiv:2507.18071; RLOO, arXiv:2402.14740).
N trained tokens, S sequences.
"""

from typing import Literal

import torch
from torch import Tensor

from ostinato.losses.aggregate import sum_by_sequence

EXPONENT = 20.0


def policy_ratio(
    log_probs: Tensor,
    old: Tensor,
    sequence: Tensor,
    sequences: int,
    *,
    level: Literal["token", "sequence_mean", "sequence_sum"] = "token",
) -> Tensor:
    """(N,) exp(d), d = log_probs - old of a token, or its mean or sum over the token's sequence, each token the same.

    log_probs, old (N,); sequence (N,) int64 in [0, S); sequences S. Differentiated as it stands, by log_probs alone;
    d beyond +-20 is cut there and has no gradient. Exactly 1 where log_probs equal old.
    """
    log_ratio = log_probs - old.detach()
    if level != "token":
        total = sum_by_sequence(log_ratio, sequence, sequences)
        if level == "sequence_mean":
            total = total / sum_by_sequence(torch.ones_like(log_ratio), sequence, sequences)
        elif level != "sequence_sum":
            raise ValueError(f"level: {level!r} is none of token, sequence_mean, sequence_sum")
        log_ratio = total[sequence]
    return log_ratio.clamp(-EXPONENT, EXPONENT).exp()
