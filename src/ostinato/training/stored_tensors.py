"""The tensors of a folder's safetensors files, read one by one straight to where they belong.

Bytes are read, not mapped: a mapped file would count as memory for as long as the model lives.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ostinato.core.errors import RefusedError, UserError
from ostinato.training.tensor_files import DTYPES, raw_bytes

INDEX = "model.safetensors.index.json"
TYPES = {name: dtype for dtype, name in DTYPES.items()}
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
MOST_HEADER_BYTES = 100_000_000  # as the format allows


class Stored(NamedTuple):
    """A tensor in a file: its numbers begin at byte `offset`."""

    path: Path
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]


class StoredTensors(dict[str, Stored]):
    """By name. Raises UserError for a folder without weights, RefusedError for files that are not whole."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        for path in weight_files(folder):
            self.update(read_header(path))

    def read(self, name: str, start: int = 0, stop: int | None = None, dim: int = 0) -> Tensor:
        """Rows `start` to `stop` of a tensor's dimension `dim`, in memory of their own."""
        stored = self[name]
        if dim == 0 and stored.shape:
            stop = stored.shape[0] if stop is None else stop
            target = torch.empty((stop - start, *stored.shape[1:]), dtype=stored.dtype)
            self._fill(target, stored, start * math.prod(stored.shape[1:]) * stored.dtype.itemsize)
            return target
        target = torch.empty(stored.shape, dtype=stored.dtype)
        self._fill(target, stored, 0)
        return target if not stored.shape else target[:, start:stop]

    def read_into(self, target: Tensor, name: str, start: int = 0, stop: int | None = None, dim: int = 0) -> None:
        """The same, into a tensor that is there: without a copy where that is in memory and of the stored type."""
        stored = self[name]
        direct = target.device.type == "cpu" and target.dtype == stored.dtype and target.is_contiguous()
        if direct and (dim == 0 or (start, stop) == (0, None)) and type(target.data) is Tensor:
            self._fill(target, stored, start * math.prod(stored.shape[1:]) * stored.dtype.itemsize)
        else:
            target.copy_(self.read(name, start, stop, dim))

    def _fill(self, target: Tensor, stored: Stored, skip: int) -> None:
        if target.numel() == 0:
            return
        view = raw_bytes(target).cast("B")
        with stored.path.open("rb", buffering=0) as file:
            place = stored.offset + skip
            while view:
                count = os.preadv(file.fileno(), [view[: 1 << 30]], place)
                if count == 0:
                    raise RefusedError(f"{stored.path} ends within a tensor: it is not whole. Fetch it again.")
                view, place = view[count:], place + count


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model: those that its index names, else all."""
    index = folder / INDEX
    if not index.is_file():
        found = sorted(path for path in folder.glob("*.safetensors") if path.name != "adapter_model.safetensors")
        if folder / "model.safetensors" in found:  # beside it there may be the same weights in another form
            return [folder / "model.safetensors"]
        if not found:
            raise UserError(f"{folder}: no weights here: no *.safetensors file.{pickles(folder)}")
        return found
    try:
        named = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RefusedError(f"{index} cannot be read: {error}. Fetch it again.") from None
    for name in named:
        if Path(name).name != name or not (folder / name).is_file():
            raise RefusedError(f"{folder / name} is missing, which {INDEX} names. Fetch the folder again.")
    return [folder / name for name in named]


def pickles(folder: Path) -> str:
    """What to do where weights are there, but as pickles."""
    return pickle_refused(sorted(path.name for kind in PICKLES for path in folder.glob(kind)))


def pickle_refused(names: list[str]) -> str:
    """A sentence on the first of these files; nothing where there is none."""
    if not names:
        return ""
    return (
        f" {names[0]} is a pickle, which may run code when it is opened, and is not read. Convert it where you trust "
        "it: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW)."
    )


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of one file; every byte of them must be there."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= MOST_HEADER_BYTES:
                raise ValueError("no safetensors file")
            text = file.read(length)
        header: dict[str, Any] = json.loads(text)
        size = path.stat().st_size - 8 - length
        header.pop("__metadata__", None)
        return {name: _stored(path, 8 + length, size, name, entry) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RefusedError(f"{path} cannot be read: {error}. Fetch it again.") from None


def _stored(path: Path, base: int, size: int, name: str, entry: Any) -> Stored:
    if entry["dtype"] not in TYPES:
        raise ValueError(f"{name} is of type {entry['dtype']}: quantised weights are not loaded")
    dtype, shape, (begin, end) = TYPES[entry["dtype"]], tuple(map(int, entry["shape"])), entry["data_offsets"]
    if not 0 <= begin <= end or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} is said to lie at bytes {begin} to {end}, which is not its size")
    if end > size:
        raise ValueError(f"it is cut off: {name} ends at byte {end:,} of {size:,}")
    return Stored(path, base + begin, dtype, shape)
