"""Weights from elsewhere as a checkpoint of step 0: ostinato's names, the numbers and their type as they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ostinato.core.manifest import hash_file, hash_of
from ostinato.data.tokenizer import Tokenizer
from ostinato.training.checkpoint import Snapshot, write_checkpoint
from ostinato.training.export_config import build_skeleton, tokenizer_of
from ostinato.training.export_weights import check_weights, native_weights
from ostinato.training.model_files import config_of, model_files
from ostinato.training.weights import Origin

BESIDE = "generation_config.json"


@dataclass(frozen=True)
class Imported:
    """What a run folder is made of, and what its record says."""

    model: str
    files: dict[str, bytes]
    tensors: dict[str, Tensor]
    hf: bool
    tokenizer: Tokenizer | None
    hash: str

    def write(self, checkpoints: Path, run: Mapping[str, str]) -> None:
        """The checkpoint, in the folder `checkpoints` of a run."""
        facts: dict[str, Any] = {"run": dict(run), "hf": self.hf, "world": {"size": 1}, "fingerprints": {}}
        tensors = {f"model/{name}": tensor for name, tensor in self.tensors.items()}
        write_checkpoint(checkpoints, Snapshot(0, tensors, self.files, {}, facts), lambda: None)


def import_model(origin: Origin) -> Imported:
    """Nothing is loaded: the tensors are mapped from their files. RefusedError: they are not those of the model."""
    node, inputs = origin.model
    skeleton = build_skeleton(node, inputs)
    tokenizer = tokenizer_of(origin)
    files = model_files(None, node, skeleton, inputs, tokenizer)
    if (origin.folder / BESIDE).is_file():
        files[BESIDE] = (origin.folder / BESIDE).read_bytes()
    tensors = native_weights(origin, skeleton)
    if skeleton is not None:
        check_weights(tensors, skeleton, str(origin.folder))
    hf = config_of(skeleton) is not None
    return Imported(str(node.name), files, tensors, hf, tokenizer, source_hash(origin.folder))


def source_hash(folder: Path) -> str:
    """xxh3-128 over names and hashes of config.json and of all weights."""
    paths = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    return hash_of({path.name: hash_file(path) for path in paths})
