"""Tensors of which each rank holds some rows (DTensors), read, written and copied like any other.

A plain tensor is its own part and its own whole, so what is written with these functions holds for every strategy.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


def is_sharded(tensor: Tensor) -> bool:
    """Whether this rank holds a part of it only."""
    return hasattr(tensor, "placements")


def own(tensor: Any) -> Tensor:
    """This rank's part, without gradient; it shares the tensor's memory."""
    return tensor.detach().to_local() if is_sharded(tensor) else tensor.detach()


@torch.no_grad()
def whole(tensor: Any) -> Tensor:
    """The whole tensor, on every rank, which must all ask for it."""
    if not is_sharded(tensor):
        return tensor.detach()
    return tensor.detach().to(tensor.device_mesh.device_type).full_tensor()


def own_rows(tensor: Any) -> slice:
    """Which rows of the whole (first dimension) this rank's part is: equal pieces, the last ones short or empty."""
    for dimension, placement in enumerate(tensor.placements):
        if placement.is_shard():
            size = -(-tensor.shape[0] // tensor.device_mesh.size(dimension))
            start = min(size * tensor.device_mesh.get_local_rank(dimension), tensor.shape[0])
            return slice(start, min(start + size, tensor.shape[0]))
    return slice(0, tensor.shape[0])


@torch.no_grad()
def put(tensor: Tensor, value: Tensor) -> None:
    """Write a whole value into a tensor; each rank keeps its rows."""
    own(tensor).copy_(value[own_rows(tensor)] if is_sharded(tensor) else value)


def laid_out_like(value: Tensor, tensor: Any) -> Tensor:
    """A whole value, spread as `tensor` of the same shape is; as it was where that is not sharded."""
    if not is_sharded(tensor) or value.shape != tensor.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, tensor.device_mesh, tensor.placements, src_data_rank=None)


def skeleton(model: nn.Module) -> nn.Module:
    """A copy of a model whose parameters have shapes, but neither values nor memory."""
    bare: dict[int, Any] = {
        id(one): nn.Parameter(torch.empty_like(one, device="meta"), requires_grad=one.requires_grad)
        for one in model.parameters()
    }
    return copy.deepcopy(model, bare)


def with_memory(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with room on a device for the parameters that have none; tied ones stay one."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, one in module._parameters.items():
            if one is not None and one.is_meta:
                if one not in made:
                    made[one] = nn.Parameter(torch.empty_like(one, device=device), requires_grad=one.requires_grad)
                module._parameters[name] = made[one]
    return model
