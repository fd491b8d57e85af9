"""The clipped surrogate of PPO (Schulman et al. 2017, arXiv:1707.06347, equation 7), with a bound for each side."""

import torch
from torch import Tensor

from ostinato.core.registry import LOSSES


@LOSSES.register("ppo_clip")
def ppo_clip(
    ratio: Tensor,
    advantages: Tensor,
    log_probs: Tensor,
    *,
    clip_ratio: float = 0.2,
    clip_ratio_high: float | None = None,
    dual_clip: float | None = None,
) -> Tensor:
    """max(-A r, -A clip(r, 1 - clip_ratio, 1 + clip_ratio_high)); (N,), (N,), (N,) -> (N,). log_probs are not read.

    `clip_ratio_high` null: clip_ratio; higher of the two in DAPO (arXiv:2503.14476). `dual_clip` c > 1: where A < 0 no
    more than -A c, so that a large ratio does not count without bound (arXiv:1912.09729).
    """
    high = clip_ratio if clip_ratio_high is None else clip_ratio_high
    if not 0.0 <= clip_ratio <= 1.0 or high < 0.0:
        raise ValueError(f"clip_ratio {clip_ratio} must lie in [0, 1], clip_ratio_high {high} not below 0")
    if dual_clip is not None and dual_clip <= 1.0:
        raise ValueError(f"dual_clip is a ratio above 1, not {dual_clip}")
    loss = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1.0 - clip_ratio, 1.0 + high))
    if dual_clip is None:
        return loss
    return torch.where(advantages < 0, torch.minimum(loss, -advantages * dual_clip), loss)
