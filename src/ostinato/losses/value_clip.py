"""The loss of PPO's critic, whose step away from its values at the rollout does not pay beyond a bound."""

import torch
from torch import Tensor


def value_clip(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float | None = 0.2) -> Tensor:
    """1/2 max((V - R)^2, (clip(V, V_old +- clip) - R)^2); (N,), (N,), (N,) -> (N,). `clip` None: 1/2 (V - R)^2.

    As in the code of PPO (arXiv:1707.06347) and its study in arXiv:2005.12729; gradient to `values` alone.
    """
    old_values, returns = old_values.detach(), returns.detach()
    plain = (values - returns).square()
    if clip is None:
        return plain / 2
    clipped = values.clamp(old_values - clip, old_values + clip)
    return torch.maximum(plain, (clipped - returns).square()) / 2
