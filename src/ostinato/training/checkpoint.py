"""Checkpoint format 1: one folder per step, tensors whole and hashed, the manifest written last. No pickle anywhere.

A checkpoint is a map from names to tensors that knows nothing of ranks: `model/...`, `optimizer/...`, `algorithm/...`.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ostinato.core import manifest as manifests
from ostinato.core.errors import RefusedError
from ostinato.core.manifest import Damaged
from ostinato.distributed.shards import whole
from ostinato.training.checkpoint_tensors import CheckpointTensors, fill, shape_of
from ostinato.training.tensor_files import describe, write_file, write_tensors

SHARD_BYTES = 5 << 30
PATTERN = "step_????????"


class HasBytes(Protocol):
    """A tensor, or what becomes one."""

    @property
    def nbytes(self) -> int: ...


Sized = TypeVar("Sized", bound=HasBytes)


@dataclass
class Snapshot:
    """Everything that one checkpoint holds, as host copies: later steps do not change it."""

    step: int
    tensors: dict[str, Tensor]
    model_files: dict[str, bytes]
    state: dict[str, Any]
    facts: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)


def step_of(folder: Path) -> int:
    """100 for `step_00000100`."""
    return int(folder.name.removeprefix("step_"))


def step_folders(checkpoints: Path) -> list[Path]:
    """Checkpoint folders, newest first; what is being written, deleted or was put aside is not among them."""
    found = [path for path in checkpoints.glob(PATTERN) if path.name[5:].isdigit() and path.is_dir()]
    return sorted(found, reverse=True)


def free_name(folder: Path, reason: str) -> Path:
    """`step_00000100.damaged-1`, or the next number that is free."""
    number = 1
    while (path := folder.with_name(f"{folder.name}.{reason}-{number}")).exists():
        number += 1
    return path


def write_checkpoint(checkpoints: Path, snapshot: Snapshot, before_commit: Callable[[], None]) -> Path:
    """Write under a temporary name, manifest last, then rename. `before_commit` may refuse by raising."""
    final = checkpoints / f"step_{snapshot.step:08d}"
    temporary = checkpoints / f".tmp-{final.name}-{uuid.uuid4().hex[:8]}"
    for part in ("model", "state"):
        (temporary / part).mkdir(parents=True)
    files: dict[str, Any] = {}
    entries: dict[str, Any] = {}
    for name, data in snapshot.model_files.items():
        files[f"model/{name}"] = write_file(temporary / "model" / name, data)
    adapter = "adapter_config.json" in snapshot.model_files  # in peft's format, which has one file
    for kind, folder, base in (
        ("model", "model", "adapter_model" if adapter else "model"),
        ("optimizer", "state", "optimizer"),
        ("algorithm", "state", "algorithm"),
    ):
        tensors = {n.split("/", 1)[1]: t for n, t in snapshot.tensors.items() if n.startswith(kind + "/")}
        parts = [tensors] if adapter and kind == "model" else shards(tensors)
        numbered = kind == "optimizer" or len(parts) > 1
        for number, shard in enumerate(parts, 1):
            suffix = f"-{number:05d}-of-{len(parts):05d}" if numbered else ""
            path = f"{folder}/{base}{suffix}.safetensors"
            files[path] = write_tensors(temporary / path, shard, {"format": "pt"})
            entries |= {f"{kind}/{name}": {"file": path, **describe(tensor)} for name, tensor in shard.items()}
        if kind == "model" and len(parts) > 1:
            weight_map = {n.removeprefix("model/"): e["file"].removeprefix("model/") for n, e in entries.items()}
            index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
            path = "model/model.safetensors.index.json"
            files[path] = write_file(temporary / path, json.dumps(index, indent=1).encode())
    before_commit()
    body = {
        "format": manifests.CHECKPOINT_FORMAT,
        "version": manifests.CHECKPOINT_VERSION,
        "step": snapshot.step,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **snapshot.facts,
        "state": snapshot.state,
        "metrics": snapshot.metrics,
        "files": files,
        "tensors": entries,
    }
    manifests.write_json(temporary / "manifest.json", manifests.seal(body))
    for folder_path in (temporary / "model", temporary / "state", temporary):
        manifests.fsync_folder(folder_path)
    os.rename(temporary, final)
    manifests.fsync_folder(checkpoints)
    return final


def shards(tensors: Mapping[str, Sized], limit_bytes: int = SHARD_BYTES) -> list[dict[str, Sized]]:
    """Tensors in name order, cut into files of about `limit_bytes`; none if there are no tensors."""
    parts: list[dict[str, Sized]] = []
    size = 0
    for name in sorted(tensors):
        size += tensors[name].nbytes
        if not parts or size > limit_bytes:
            parts.append({})
            size = tensors[name].nbytes
        parts[-1][name] = tensors[name]
    return parts


def read_tensors(folder: Path, manifest: Mapping[str, Any], prefix: str) -> CheckpointTensors:
    """The tensors whose name begins with `prefix` (without it), on the CPU. The files must have been verified."""
    return CheckpointTensors(
        {
            name.removeprefix(prefix): (folder / entry["file"], name.split("/", 1)[1])
            for name, entry in manifest["tensors"].items()
            if name.startswith(prefix)
        }
    )


def newest_good(
    checkpoints: Path, run_id: str | None, quarantine: Callable[[Path, str], None] | None
) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint whose every byte is right; bad ones go to `quarantine`. None: none was ever written.

    Raises RefusedError when there were some and none is good, or when one is of a newer format or cannot be read.
    """
    seen = bool(list(checkpoints.glob("step_*.damaged-*")))
    for folder in step_folders(checkpoints):
        seen = True
        try:
            found = manifests.read_checkpoint(folder)
            if run_id is not None and found["run"]["id"] != run_id:
                raise Damaged(f"manifest.json is of run {found['run']['name']} ({found['run']['id']})")
            manifests.verify_files(folder, found)
            return folder, found
        except Damaged as problem:
            if quarantine is None:
                raise RefusedError(f"{folder}: {problem}") from None
            quarantine(folder, str(problem))
        except (OSError, manifests.NewerFormat) as error:
            raise RefusedError(f"{folder}: {error}") from error
    if seen:
        raise RefusedError(f"{checkpoints}: no checkpoint is good; each damaged one was put aside as step_N.damaged-K.")
    return None


def host_copy(tensor: Tensor) -> Tensor:
    """A copy in host memory that later steps do not touch."""
    return whole(tensor).to("cpu", copy=True)


def load_into(target: Mapping[str, Tensor], source: Mapping[str, Tensor], what: str) -> None:
    """Copy tensors by name; every name and shape must agree."""
    if missing := sorted(set(target) ^ set(source)):
        raise RefusedError(f"{what}: these tensors are in one of checkpoint and model only: {', '.join(missing[:5])}")
    with torch.no_grad():
        for name, tensor in target.items():
            if (shape := shape_of(source, name)) != tuple(tensor.shape):
                shapes = f"{list(shape)}, the model wants {list(tensor.shape)}"
                raise RefusedError(f"{what}: {name} has shape {shapes}")
            fill(tensor, source, name)
