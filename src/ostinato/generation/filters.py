"""Which tokens may be drawn: repetition penalty, top_k, top_p, min_p, in this order, ties to the lower id.

W rows, V vocabulary, C candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNIT = 2.0**50  # probabilities as integers: their sums are exact, in any order
FIRST_LOOK = 256  # top_p alone rarely needs more than the likeliest of a vocabulary


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits of tokens that occurred (`seen`, (W, V) bool) divided by `penalty` if positive, else times it (CTRL)."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def ranked(scores: Tensor, count: int) -> Tensor:
    """The ids of the `count` highest scores (W, V) fp32, the highest first, ties to the lower id: (W, count).

    By one integer per token: the bits of its score, ordered as numbers, then its id. So there are no ties for torch to
    break.
    """
    bits = (scores + 0.0).view(torch.int32)  # + 0.0: a negative zero is no less than a positive one
    bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    last = scores.shape[-1] - 1
    keys = (bits << 32) + torch.arange(last, -1, -1, device=scores.device)
    best = keys.topk(count, -1).values if count <= last else keys.sort(dim=-1, descending=True).values
    return last - (best & 0xFFFFFFFF)


def candidates(scores: Tensor, top_k: int | None, top_p: float, min_p: float) -> tuple[Tensor, Tensor]:
    """Ids (W, C), the likeliest first, and their probabilities float64, 0 where a filter leaves them out.

    `scores` (W, V): logits after penalty and temperature. top_p keeps the smallest set whose mass reaches it, the
    crossing token included, of what top_k left; min_p what is at least min_p times as likely as the likeliest. One
    token always survives.
    """
    probabilities = scores.double().softmax(-1)
    vocabulary = scores.shape[-1]
    if top_k is None and scores.device.type == "cpu" and vocabulary > FIRST_LOOK:
        ids = ranked(scores, FIRST_LOOK)
        mass = (probabilities.gather(1, ids) * UNIT).long().sum(-1)
        if bool((mass >= (probabilities * UNIT).long().sum(-1) * top_p).all()):
            return ids, _kept(probabilities, ids, None, top_p, min_p)
    ids = ranked(scores, min(top_k or vocabulary, vocabulary))
    return ids, _kept(probabilities, ids, top_k, top_p, min_p)


def _kept(probabilities: Tensor, ids: Tensor, top_k: int | None, top_p: float, min_p: float) -> Tensor:
    ordered = probabilities.gather(1, ids)
    keep = ordered >= min_p * ordered[:, :1]
    if top_p < 1.0:
        mass = (ordered * UNIT).long()
        total = (mass if top_k is not None else (probabilities * UNIT).long()).sum(-1, keepdim=True)
        keep &= mass.cumsum(-1) - mass < total.double() * top_p
    keep[:, 0] = True
    return torch.where(keep, ordered, 0.0)
