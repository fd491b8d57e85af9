"""Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438) over the trained tokens of sequences.

N tokens, S sequences. Tokens that are not trained are stepped over: no value of theirs is read, no discount charged.
"""

import torch
from torch import Tensor

from ostinato.losses.token_returns import token_returns


def gae(
    rewards: Tensor, values: Tensor, after: Tensor, sequence: Tensor, *, gamma: float = 1.0, lam: float | Tensor = 0.95
) -> Tensor:
    """(N,) A_t = delta_t + gamma lam A_next, delta_t = r_t + gamma V_next - V_t; next: the following trained token.

    rewards, values (N,); after (S,): V_next of the last trained token, 0 where the sequence ended, the critic's value
    where it was cut; sequence (N,) ascending, tokens in order; lam a number or (S,). Returns are A + values.
    """
    values, after = values.detach().double(), after.detach().double()
    following = after[sequence]
    inside = sequence[1:] == sequence[:-1]
    following[:-1] = torch.where(inside, values[1:], following[:-1])
    delta = rewards.detach() + gamma * following - values
    return token_returns(delta, sequence, gamma=gamma * lam).to(rewards.dtype)


def adaptive_lam(lengths: Tensor, alpha: float) -> Tensor:
    """(S,) max(0, 1 - 1 / (alpha n)) for sequences of n trained tokens (arXiv:2504.05118)."""
    return (1.0 - 1.0 / (alpha * lengths.double())).clamp(min=0.0)
