"""The reward model's loss: Bradley-Terry with margins (arXiv:2307.09288), kept near zero (arXiv:2312.09244)."""

import torch.nn.functional as F
from torch import Tensor

from ostinato.core.registry import LOSSES


@LOSSES.register("bradley_terry")
def bradley_terry(chosen: Tensor, rejected: Tensor, margins: Tensor, *, center_coefficient: float = 0.01) -> Tensor:
    """-log sigmoid(c - r - margin) + center_coefficient (c + r)^2, c and r the rewards; all (P,), fp32."""
    return -F.logsigmoid(chosen - rejected - margins) + center_coefficient * (chosen + rejected) ** 2
