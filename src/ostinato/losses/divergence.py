"""The divergence between a student and its teacher (generalised Jensen-Shannon; GKD, Agarwal et al., arXiv:2306.13649).

The formula on logits, where a test or a small vocabulary can afford them; `models/divergence_head.py` computes the same
from hidden states in tiles.
"""

import math

import torch
from torch import Tensor


def generalised_jsd(student_logits: Tensor, teacher_logits: Tensor, *, beta: float, temperature: float = 1.0) -> Tensor:
    """beta KL(P | M) + (1 - beta) KL(S | M), M = beta P + (1 - beta) S; (N, V), (N, V) -> (N,).

    P teacher, S student, both softmax(logits / temperature). beta 0 is KL(P | S), beta 1 KL(S | P), by convention: the
    formula itself goes to 0 there. Gradient to the student alone. In nats, not multiplied by temperature^2.
    """
    if not 0.0 <= beta <= 1.0 or temperature <= 0.0:
        raise ValueError(f"beta {beta} must lie in [0, 1] and temperature {temperature} above 0")
    log_s = (student_logits / temperature).log_softmax(dim=1)
    log_p = (teacher_logits.detach() / temperature).log_softmax(dim=1)
    if beta == 0.0:
        return _kl(log_p, log_s)
    if beta == 1.0:
        return _kl(log_s, log_p)
    log_m = torch.logaddexp(log_p + math.log(beta), log_s + math.log1p(-beta))
    return beta * _kl(log_p, log_m) + (1.0 - beta) * _kl(log_s, log_m)


def _kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    return (log_a.exp() * (log_a - log_b)).sum(dim=1)
