"""Weights that correct for a sampler whose log-probs are not quite the policy's (Yao et al. 2025; arXiv:2510.26941)."""

import math
from typing import Literal

import torch
from torch import Tensor

from ostinato.losses.aggregate import sum_by_sequence

BOUNDS = {
    "token_truncate": (0.0, 2.0),
    "token_mask": (0.5, 5.0),
    "sequence_mask": (0.0, 3.0),
    "geometric_mask": (0.999, 1.002),
}
EXPONENT = 20.0
