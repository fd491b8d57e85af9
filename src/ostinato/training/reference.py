"""The model that training starts from, frozen: what preference learning and RL measure their distance to."""

from __future__ import annotations

import copy

from torch import nn


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose weights take no gradient: no dropout, same dtype and kernels as the original.

    It is made when the algorithm is built, before a checkpoint is loaded, so that it always is the model that the run
    started from; it is therefore not saved.
    """
    copied = copy.deepcopy(model)
    return copied.eval().requires_grad_(False)
