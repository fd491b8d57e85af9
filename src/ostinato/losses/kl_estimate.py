"""What a sampled token says about KL(policy || reference): k1, k2, k3 (J. Schulman, Approximating KL divergence, 2020).

As a loss their gradients differ from their means (arXiv:2506.09477). With tokens sampled by `old` and r = p / old, r k1
and r k3 have the gradient of KL(policy || reference), and so has plain k2 on policy. Plain k1 has none on average,
plain k3 that of KL(reference || policy).
"""

from typing import Literal

import torch
from torch import Tensor

EXPONENT = 20.0


def kl_estimate(
    log_probs: Tensor, reference: Tensor, *, kind: Literal["k1", "k2", "k3"], importance_ratio: Tensor | None = None
) -> Tensor:
    """(N,) k of d = log_probs - reference: k1 = d, k2 = d^2 / 2, k3 = e^-d + d - 1, at least 0 as k2 is.

    log_probs, reference (N,); no gradient to the reference, nor where k3 is cut, d beyond +-20. `importance_ratio`
    (N,): the live ratio exp(log_probs - old) of each token multiplies k1 and k3; k2 stays plain, as it must.
    """
    d = log_probs - reference.detach()
    if kind == "k2":
        return d.square() / 2
    if kind == "k3":
        d = d.clamp(-EXPONENT, EXPONENT)
        d = torch.expm1(-d) + d
    elif kind != "k1":
        raise ValueError(f"kind: {kind!r} is none of k1, k2, k3")
    return d if importance_ratio is None else importance_ratio * d
