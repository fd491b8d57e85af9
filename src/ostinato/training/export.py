"""A model as a folder in Hugging Face's form: config, safetensors, tokenizer, generation config, model card."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ostinato.core.errors import UserError
from ostinato.core.manifest import json_text
from ostinato.data.tokenizer import Tokenizer
from ostinato.training.checkpoint import shards
from ostinato.training.export_config import ExportedModel, describe_model
from ostinato.training.export_weights import export_weights, stored_weights
from ostinato.training.generation_config import generation_config
from ostinato.training.planned_tensor import PlannedTensor
from ostinato.training.score_model import statistics
from ostinato.training.tensor_files import write_file, write_tensors
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
    tokenizer: Tokenizer | None
    tensors: dict[str, PlannedTensor]
    generation: dict[str, Any]
    files: list[str] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        """How many numbers the weights are."""
        return sum(torch.Size(tensor.shape).numel() for tensor in self.tensors.values())

    @property
    def dtype(self) -> str:
        """The type of most of them: `float32`."""
        return main_dtype(self.tensors)

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
    force: bool = False,
    sampling: Mapping[str, Any] | None = None,
    card: Callable[[Exported], str],
) -> Exported:
    """Write the model of `origin` into the folder `target`, whole or not at all; one file of weights is in memory at
    a time. `sampling`: a run's `generation` section. `card` gives the text of README.md.

    Raises UserError where `target` is in use, RefusedError for damaged weights.
    """
    model = describe_model(origin)
    if model.kind == "scores":
        model.config |= statistics(stored_weights(origin.folder))
    wanted = DTYPES[dtype] if dtype else None
    tensors = {name: tensor.to(wanted) for name, tensor in export_weights(origin, model).items()}
    found = Exported(model, model.tokenizer, tensors, {})
    if model.tokenizer is not None and model.kind == "causal":
        found.generation = generation_config(model.tokenizer, origin.folder, sampling)
    with whole_folder(target, replace=force, room_bytes=found.bytes + ROOM_BYTES) as folder:
        for name, data in small_files(found).items():
            write_file(folder / name, data)
        write_weights(folder, tensors, shard_bytes)
        write_file(folder / "README.md", card(found).encode())
        found.files = sorted(path.name for path in folder.iterdir())
    return found


def small_files(found: Exported) -> dict[str, bytes]:
    """Everything but weights and card."""
    config = {**found.model.config, "dtype": found.dtype} if found.model.kind != "own" else found.model.config
    files = {"config.json": json_text(config)}
    if found.generation:
        files["generation_config.json"] = json_text(found.generation)
    return files | (tokenizer_files(found.tokenizer) if found.tokenizer is not None else {})


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """tokenizer.json, tokenizer_config.json, and the chat template in a file of its own, where transformers 5 looks."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        tokenizer.save(Path(name))
        files = {path.name: path.read_bytes() for path in sorted(Path(name).iterdir())}
    settings = json.loads(files["tokenizer_config.json"])
    if (template := settings.pop("chat_template", None)) is not None:
        files["chat_template.jinja"] = template.encode()
        files["tokenizer_config.json"] = json_text(settings)
    return files


def write_weights(folder: Path, tensors: Mapping[str, PlannedTensor], shard_bytes: int) -> None:
    """model.safetensors, or numbered files of at most `shard_bytes` (a larger tensor gets its own) with an index."""
    parts = shards(tensors, shard_bytes)
    weight_map: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        name = f"model-{number:05d}-of-{len(parts):05d}.safetensors" if len(parts) > 1 else "model.safetensors"
        write_tensors(folder / name, {key: tensor.tensor() for key, tensor in part.items()}, {"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    if len(parts) > 1:
        total = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        write_file(folder / "model.safetensors.index.json", json_text(index))


def main_dtype(tensors: Mapping[str, PlannedTensor]) -> str:
    """The floating type that holds most bytes."""
    sizes: dict[torch.dtype, int] = {}
    for tensor in tensors.values():
        if tensor.dtype.is_floating_point:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.nbytes
    return str(max(sizes, key=lambda dtype: sizes[dtype], default=torch.float32)).removeprefix("torch.")


def size_bytes(text: str) -> int:
    """`5GB` = 5,000,000,000; `1GiB` = 2**30; a number alone is bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B|)", text.strip(), re.IGNORECASE)
    size = int(float(match[1]) * UNITS[match[2].upper()]) if match else 0
    if size < 1:
        raise UserError(f"--max-shard-size: {text!r} is no size. Write 5GB, 500MB or 1GiB.")
    return size
