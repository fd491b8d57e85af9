"""A model as a folder in Hugging Face's form: config, safetensors, tokenizer, generation config, model card."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ostinato.core.errors import UserError
from ostinato.core.manifest import json_text
from ostinato.training.adapter_export import adapter_weights, describe_adapter
from ostinato.training.adapters import AdapterOrigin
from ostinato.training.checkpoint import shards
from ostinato.training.export_config import ExportedModel, describe_model
from ostinato.training.export_weights import export_weights, main_dtype, native_weights
from ostinato.training.generation_config import generation_config
from ostinato.training.planned_tensor import PlannedTensor
from ostinato.training.score_model import statistics
from ostinato.training.tensor_files import write_file, write_tensors
from ostinato.training.tokenizer_export import tokenizer_files
from ostinato.training.weights import Origin
from ostinato.training.whole_folder import whole_folder

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
ROOM_BYTES = 64 << 20  # for tokenizer, index and headers


@dataclass
class Exported:
    """What was written, for the one who asked and for the model card."""

    model: ExportedModel
    tensors: dict[str, PlannedTensor]
    files: list[str] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """How many numbers the weights are."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def dtype(self) -> str:
        """The type of most of them: `float32`."""
        return str(main_dtype(self.tensors)).removeprefix("torch.")

    @property
    def bytes(self) -> int:
        """The size of the weights."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def export_model(
    origin: Origin,
    target: Path,
    *,
    dtype: str | None = None,
    shard_bytes: int = 5 * 10**9,
    merge: bool = False,
    force: bool = False,
    sampling: Mapping[str, Any] | None = None,
    card: Callable[[Exported], str],
) -> Exported:
    """Write the model of `origin` into the folder `target`, whole or not at all; one file of weights is in memory at
    a time. `merge`: an adapter becomes part of the weights; without it the adapter alone is written, for peft.
    `sampling`: a run's `generation` section. `card` gives the text of README.md.

    Raises UserError where `target` is in use or what is asked cannot be, RefusedError for damaged weights.
    """
    adapted = isinstance(origin, AdapterOrigin)
    if merge and not adapted:
        raise UserError("--merge: this model has no adapter. Leave --merge out.")
    model = describe_adapter(origin) if adapted and not merge else describe_model(origin)
    weights = adapter_weights(origin) if model.kind == "adapter" else native_weights(origin, model.skeleton)
    if model.kind == "scores":
        model.config |= statistics(weights)
    wanted = DTYPES[dtype] if dtype else None
    tensors = {name: tensor.to(wanted) for name, tensor in export_weights(weights, model, str(origin.folder)).items()}
    found = Exported(model, tensors)
    files = small_files(found)
    if model.kind == "causal" and model.tokenizer is not None:
        files["generation_config.json"] = json_text(generation_config(model.tokenizer, origin.folder, sampling))
    with whole_folder(target, replace=force, room_bytes=found.bytes + ROOM_BYTES) as folder:
        for name, data in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_file(folder / name, data)
        write_weights(folder, tensors, shard_bytes, "adapter_model" if model.kind == "adapter" else "model")
        write_file(folder / "README.md", card(found).encode())
        found.files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return found


def small_files(found: Exported) -> dict[str, bytes]:
    """config.json, or that of an adapter, and the tokenizer."""
    model = found.model
    config = {**model.config, "dtype": found.dtype} if model.architecture else model.config
    files = {"adapter_config.json" if model.kind == "adapter" else "config.json": json_text(config)}
    return files | (tokenizer_files(model.tokenizer) if model.tokenizer is not None else {})


def write_weights(folder: Path, tensors: Mapping[str, PlannedTensor], shard_bytes: int, stem: str) -> None:
    """`stem`.safetensors, or numbered files of at most `shard_bytes` (a larger tensor gets its own) with an index."""
    parts = shards(tensors, shard_bytes) if stem == "model" else [dict(tensors)]  # peft reads one file
    weight_map: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        name = f"{stem}-{number:05d}-of-{len(parts):05d}.safetensors" if len(parts) > 1 else f"{stem}.safetensors"
        write_tensors(folder / name, {key: tensor.tensor() for key, tensor in part.items()}, {"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    if len(parts) > 1:
        total = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        write_file(folder / f"{stem}.safetensors.index.json", json_text(index))


def size_bytes(text: str) -> int:
    """`5GB` = 5,000,000,000; `1GiB` = 2**30; a number alone is bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B|)", text.strip(), re.IGNORECASE)
    size = int(float(match[1]) * UNITS[match[2].upper()]) if match else 0
    if size < 1:
        raise UserError(f"--max-shard-size: {text!r} is no size. Write 5GB, 500MB or 1GiB.")
    return size
