"""Discounted sums over the tokens that follow: the returns of REINFORCE++ (arXiv:2501.03262). N tokens, S sequences."""

import torch
from torch import Tensor


def token_returns(rewards: Tensor, sequence: Tensor, *, gamma: float | Tensor = 1.0) -> Tensor:
    """(N,) G_t = r_t + gamma G_next, next being the following trained token of the same sequence, 0 after the last.

    rewards (N,); sequence (N,) ascending, tokens in order; gamma a number, or (S,) one for each sequence. Computed in
    fp64 by doubling the reach of each sum: log2(N) passes over all sequences at once, none of which sees another.
    """
    sums = rewards.double()
    factor = gamma.double()[sequence] if isinstance(gamma, Tensor) else torch.full_like(sums, gamma)
    reach = 1  # sums[t] covers the tokens t to t + reach - 1
    while reach < len(sums):
        inside = sequence[reach:] == sequence[:-reach]
        later = torch.where(inside, factor[:-reach] * sums[reach:], 0.0)
        sums = torch.cat([sums[:-reach] + later, sums[-reach:]])
        factor, reach = factor.square(), 2 * reach
    return sums.to(rewards.dtype)
