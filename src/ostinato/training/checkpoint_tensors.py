"""The tensors of a checkpoint as a mapping by name: read when they are asked for, whole or in part."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ostinato.distributed.shards import is_sharded, own, own_rows, put


class CheckpointTensors(Mapping[str, Tensor]):
    """`places`: for each name its file and its name there. Values are on the CPU, and are not kept."""

    def __init__(self, places: Mapping[str, tuple[Path, str]]) -> None:
        self.places = dict(places)
        self.opened: dict[Path, Any] = {}

    def _at(self, name: str) -> tuple[Any, str]:
        path, inside = self.places[name]
        if path not in self.opened:
            self.opened[path] = safe_open(path, framework="pt")
        return self.opened[path], inside

    def __getitem__(self, name: str) -> Tensor:
        file, inside = self._at(name)
        return file.get_tensor(inside)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def shape(self, name: str) -> tuple[int, ...]:
        file, inside = self._at(name)
        return tuple(file.get_slice(inside).get_shape())

    def rows(self, name: str, rows: slice) -> Tensor:
        """Some of the rows (first dimension), the others are not read."""
        file, inside = self._at(name)
        return file.get_slice(inside)[rows]

    def without(self, names: Collection[str]) -> CheckpointTensors:
        """All but these."""
        return CheckpointTensors({name: place for name, place in self.places.items() if name not in names})

    def below(self, prefix: str) -> CheckpointTensors:
        """Those whose name begins with `prefix`, under what follows it."""
        kept = self.places.items()
        return CheckpointTensors({name.removeprefix(prefix): place for name, place in kept if name.startswith(prefix)})


def shape_of(source: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Of a tensor that need not be read for it."""
    return source.shape(name) if isinstance(source, CheckpointTensors) else tuple(source[name].shape)


@torch.no_grad()
def fill(tensor: Tensor, source: Mapping[str, Tensor], name: str) -> None:
    """Write what `source` has under `name` into a tensor of the same shape; of a sharded one this rank's rows."""
    if is_sharded(tensor) and isinstance(source, CheckpointTensors):
        rows = own_rows(tensor)
        if rows.start < rows.stop:
            own(tensor).copy_(source.rows(name, rows))
    else:
        put(tensor, source[name])
