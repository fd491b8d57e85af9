"""safetensors files written by hand, so that the very bytes that are hashed are the bytes on the disk.

The format: 8 bytes little-endian length, a JSON header {name: {dtype, shape, data_offsets}}, raw bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def raw_bytes(tensor: Tensor) -> memoryview:
    """The little-endian bytes of a CPU tensor, without a copy when it is contiguous."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data


def describe(tensor: Tensor) -> dict[str, Any]:
    """dtype, shape and hash of a tensor, as manifests list them."""
    return {
        "dtype": DTYPES[tensor.dtype],
        "shape": list(tensor.shape),
        "xxh3": xxhash.xxh3_128_hexdigest(raw_bytes(tensor)),
    }


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Any]:
    """Write and fsync one file, tensors in name order; returns its {bytes, xxh3}."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    digest = xxhash.xxh3_128()
    with path.open("wb") as file:
        parts: list[Any] = [
            len(text).to_bytes(8, "little"),
            text,
            *(raw_bytes(tensors[name]) for name in sorted(tensors)),
        ]
        for part in parts:
            digest.update(part)
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    return {"bytes": size, "xxh3": digest.hexdigest()}


def write_file(path: Path, data: bytes) -> dict[str, Any]:
    """Write and fsync any other file; returns its {bytes, xxh3}."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": len(data), "xxh3": xxhash.xxh3_128_hexdigest(data)}
