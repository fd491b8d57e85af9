"""Images and their labels as batches. Letters: B images, C channels, H rows, W columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from ostinato.core.types import Batch
from ostinato.data.formats import SampleFormat, Samples
from ostinato.data.source import Row, Source
from ostinato.data.source_samples import SourceSamples
from torch import Tensor

IGNORE = -1
"""The label of an image that only fills up a batch."""
SHADES = " .:-=+*#%@"


@dataclass
class ImageBatch(Batch):
    """Images with what each may be mixed with: the next image of the step."""

    images: Tensor  # (B, C, H, W) fp32 in [0, 1]
    labels: Tensor  # (B,) int64; IGNORE where nothing is trained
    partners: Tensor  # (B, C, H, W)
    partner_labels: Tensor  # (B,)
    positions: Tensor  # (B,) int64: the image's place in the step, whatever micro-batch and rank it is on
    weights: Tensor  # (B,) fp32: the image's share in what is trained on; the rest is the partner's

    def counts(self) -> dict[str, int]:
        return {"images": int((self.labels != IGNORE).sum())}


class Placed(NamedTuple):
    """An image, its partner, and its place among the step's images."""

    position: int
    row: Row
    partner: Row


class Images(SampleFormat):
    """Rows `{"image": (H, W) or (C, H, W) uint8, "label": int}`, all of one size."""

    tokenized = False

    def prepare(self, source: Source, label: str) -> Samples:
        return SourceSamples(label, source, self.describe)

    def item_at(self, position: int, count: int, read: Callable[[int], Row]) -> Placed:
        return Placed(position, read(position), read((position + 1) % count))

    def collate(self, rows: list[list[Placed]]) -> ImageBatch:
        items = [item for row in rows for item in row]
        return ImageBatch(
            images=pixels([item.row for item in items]),
            labels=torch.tensor([item.row["label"] for item in items]),
            partners=pixels([item.partner for item in items]),
            partner_labels=torch.tensor([item.partner["label"] for item in items]),
            positions=torch.tensor([item.position for item in items]),
            weights=torch.ones(len(items)),
        )

    def empty(self) -> ImageBatch:
        nothing, label = torch.zeros(1, 1, 8, 8), torch.tensor([IGNORE])
        return ImageBatch(nothing, label, nothing, label, torch.tensor([0]), torch.ones(1))

    def describe(self, item: Row | Placed) -> str:
        row = item.row if isinstance(item, Placed) else item
        image = row["image"] if row["image"].ndim == 2 else row["image"].mean(0)
        lines = ("".join(SHADES[int(value) * len(SHADES) // 256] * 2 for value in line) for line in image)
        return "\n".join([f"label {row['label']}", *lines])


def pixels(rows: list[Row]) -> Tensor:
    """(B, C, H, W) fp32 in [0, 1]."""
    stacked = torch.from_numpy(np.stack([row["image"] for row in rows])).float() / 255
    return stacked if stacked.dim() == 4 else stacked[:, None]
