"""The tensors of an exported model: ours under the names, and in the pieces, that its class of transformers has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ostinato.core.errors import RefusedError
from ostinato.training.adapters import AdapterOrigin
from ostinato.training.export_config import ExportedModel
from ostinato.training.foreign import read_config
from ostinato.training.foreign_weights import located
from ostinato.training.initialise import build_model
from ostinato.training.planned_tensor import PlannedTensor
from ostinato.training.score_model import STATISTICS, stored_statistics
from ostinato.training.state import named_weights
from ostinato.training.stored_tensors import StoredTensors, weight_files
from ostinato.training.weights import Origin


def export_weights(found: Mapping[str, Tensor], model: ExportedModel, what: str) -> dict[str, PlannedTensor]:
    """What is written of the model's weights `found`, by name. RefusedError: one is missing, unknown, or misshapen."""
    if model.skeleton is None:
        return {name: PlannedTensor.of(tensor) for name, tensor in found.items()}
    check_weights(found, model.skeleton, what)
    left_out = STATISTICS if model.kind == "scores" else ("score.weight",)
    kept = {name: tensor for name, tensor in found.items() if name not in left_out}
    to_files = getattr(model.skeleton, "to_files", None)
    if to_files is not None:  # a class of transformers, whose files may differ from its modules
        return {name: PlannedTensor.of(tensor) for name, tensor in to_files(kept).items()}
    return assembled(kept, model.pieces)


def native_weights(origin: Origin, skeleton: Any) -> dict[str, Tensor]:
    """The weights under our names, an adapter merged: mapped from their files where they lie so, else loaded.

    `skeleton`: the model without memory; None for one of the user's own class. RefusedError: they are not its weights.
    """
    if isinstance(origin, AdapterOrigin):
        return merged_weights(origin)
    config, stored = read_config(origin.folder), stored_weights(origin.folder)
    if "ostinato" in config or skeleton is None:
        return stored
    pieces = located(skeleton, StoredTensors(origin.folder), config)
    found = {name: cut(stored[piece.name], piece) for name, piece in pieces.items()}
    drawn = {name: torch.zeros(1) for name in STATISTICS if name in dict(skeleton.named_parameters())}
    return found | drawn | {name: torch.tensor([value]) for name, value in stored_statistics(config).items()}


def merged_weights(origin: AdapterOrigin) -> dict[str, Tensor]:
    """A base with its adapter in it, in the type of the base."""
    model = build_model(*origin.model, 0, torch.device("cpu"))
    origin.load_into(model)
    kind = main_dtype(stored_weights(origin.base.folder)) if origin.base else torch.float32
    found = {name: tensor.detach() for name, tensor in named_weights(model).items()}
    return {name: tensor.to(kind) if tensor.is_floating_point() else tensor for name, tensor in found.items()}


def stored_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder, mapped from its files: nothing is read yet."""
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as opened:
                names = opened.keys()
                tensors |= {name: opened.get_tensor(name) for name in names}
        except (OSError, SafetensorError) as error:
            raise RefusedError(f"{path} cannot be read: {error}") from None
    return tensors


def cut(tensor: Tensor, piece: Any) -> Tensor:
    """A piece of a stored tensor, as our model has it; nothing is copied."""
    if tensor.dim() > piece.dim:
        stop = tensor.shape[piece.dim] if piece.stop is None else piece.stop
        tensor = tensor.narrow(piece.dim, piece.start, stop - piece.start)
    return tensor.T if piece.transposed else tensor


def check_weights(found: Mapping[str, Tensor], skeleton: nn.Module, what: str) -> None:
    """Raise RefusedError unless they are those of the model."""
    wanted = {name: tuple(tensor.shape) for name, tensor in named_weights(skeleton).items()}
    stored = {name: tuple(tensor.shape) for name, tensor in found.items()}
    if odd := sorted(set(wanted) ^ set(stored)):
        raise RefusedError(f"{what}: these tensors are in one of weights and model only: {', '.join(odd[:5])}")
    for name, shape in wanted.items():
        if stored[name] != shape:
            raise RefusedError(f"{what}: {name} has shape {list(stored[name])}, the model wants {list(shape)}")


def assembled(found: Mapping[str, Tensor], pieces: Callable[[str], Any]) -> dict[str, PlannedTensor]:
    """Foreign tensors put together from ours, as `pieces(name)` says where each of ours lies."""
    parts: dict[str, list[tuple[Any, Tensor]]] = {}
    for name, tensor in found.items():
        piece = pieces(name)
        parts.setdefault(piece.name, []).append((piece, tensor.T if piece.transposed else tensor))
    return {name: joined(sorted(own, key=lambda part: part[0].start)) for name, own in parts.items()}


def joined(parts: Sequence[tuple[Any, Tensor]]) -> PlannedTensor:
    """Pieces of one tensor, in the order of their place in it."""
    first, tensors = parts[0][0], [tensor for _, tensor in parts]
    if len(tensors) == 1:
        return PlannedTensor.of(tensors[0])
    shape = list(tensors[0].shape)
    shape[first.dim] = sum(tensor.shape[first.dim] for tensor in tensors)
    return PlannedTensor(tuple(shape), tensors[0].dtype, lambda: torch.cat(tensors, first.dim))


def main_dtype(tensors: Mapping[str, PlannedTensor] | Mapping[str, Tensor]) -> torch.dtype:
    """The floating type that holds most bytes."""
    sizes: dict[torch.dtype, int] = {}
    for tensor in tensors.values():
        if tensor.dtype.is_floating_point:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.nbytes
    return max(sizes, key=lambda dtype: sizes[dtype], default=torch.float32)
