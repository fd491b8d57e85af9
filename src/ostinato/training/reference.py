"""The model that training starts from, frozen: what preference learning and RL measure their distance to."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ostinato.distributed.shards import own


def reference_model(model: nn.Module) -> Any:
    """What gives the outputs of the model as it is now, in evaluation mode: a frozen copy, same dtype and kernels.

    Of a model that is trained in part, such as one with an adapter, only that part is kept: no second set of weights.
    It is made when the algorithm is built, before a checkpoint is loaded, so that it always is the model that the run
    started from; it is therefore not saved.
    """
    if all(parameter.requires_grad for parameter in model.parameters()):
        return copy.deepcopy(model).eval().requires_grad_(False)
    return StartingWeights(model)


class StartingWeights:
    """A model that is called with the trained weights it had at first; they are put back bit for bit."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.first: list[Tensor] = [own(parameter).clone() for parameter in self.trained]

    @torch.no_grad()
    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """The model's outputs, without gradient. Not between a forward pass and its backward pass."""
        now, training = [own(parameter).clone() for parameter in self.trained], self.model.training
        try:
            for parameter, first in zip(self.trained, self.first, strict=True):
                own(parameter).copy_(first)
            return self.model.eval()(*inputs, **options)
        finally:
            self.model.train(training)
            for parameter, before in zip(self.trained, now, strict=True):
                own(parameter).copy_(before)
