"""A small residual network (He et al. 2015, arXiv:1512.03385) with group normalisation (arXiv:1803.08494).

Batch normalisation would make an image's gradient depend on the micro-batch it is in; groups are of one image's own
channels. Letters: B images, C channels, H rows, W columns, K classes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from ostinato.core.inputs import ModelInputs
from ostinato.core.registry import MODELS
from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int, groups: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.first_norm = nn.GroupNorm(groups, outside)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.last_norm = nn.GroupNorm(groups, outside)
        same = inside == outside and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.shortcut(x) + self.last_norm(self.second(y)))


@MODELS.register("resnet")
class ResNet(nn.Module):
    """`stages` of `blocks` blocks each; every stage after the first halves height and width and doubles the width.

    Convolutions start as in He et al. 2015 (arXiv:1502.01852), the last norm of a block at 0, so that at first a block
    passes on what it is given.
    """

    def __init__(
        self,
        inputs: ModelInputs,
        *,
        classes: int = 10,
        channels: int = 1,
        width: int = 16,
        stages: int = 3,
        blocks: int = 1,
        groups: int = 4,
    ) -> None:
        super().__init__()
        if width % groups or width == groups:
            raise ValueError(f"width {width} is no multiple of groups {groups} with two channels or more in a group")
        self.classes, self.channels = classes, channels
        self.stem = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.stem_norm = nn.GroupNorm(groups, width)
        self.stages, inside = nn.ModuleList(), width
        for stage in range(stages):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                self.stages.append(Block(inside, width * 2**stage, stride, groups))
                inside = width * 2**stage
        self.head = nn.Linear(inside, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, K) fp32."""
        x = F.relu(self.stem_norm(self.stem(images)))
        for block in self.stages:
            x = block(x)
        return self.head(x.mean((2, 3))).float()

    def initial_value(self, name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """The start of one parameter, from a generator of its own."""
        if len(shape) > 1:
            fan = shape[1] if name == "head.weight" else shape[0] * math.prod(shape[2:]) / 2
            return torch.randn(shape, generator=generator) / math.sqrt(fan)
        if name.endswith("norm.weight"):
            return torch.full(shape, 0.0 if name.endswith("last_norm.weight") else 1.0)
        return torch.zeros(shape)
