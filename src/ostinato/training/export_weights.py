"""The tensors of an exported model: ours under the names, and in the pieces, that its class of transformers has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ostinato.core.errors import RefusedError
from ostinato.training.export_config import ExportedModel
from ostinato.training.planned_tensor import PlannedTensor
from ostinato.training.score_model import STATISTICS
from ostinato.training.state import named_weights
from ostinato.training.weights import Origin


def export_weights(origin: Origin, model: ExportedModel) -> dict[str, PlannedTensor]:
    """What is written, by name. RefusedError: a weight is missing, unknown, or of another shape."""
    found = stored_weights(origin.folder)
    if model.skeleton is not None:
        check_weights(found, model.skeleton, str(origin.folder))
        left_out = STATISTICS if model.kind == "scores" else ("score.weight",)
        found = {name: tensor for name, tensor in found.items() if name not in left_out}
    return {name: PlannedTensor.of(tensor) for name, tensor in found.items()}


def stored_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder, mapped from its files: nothing is read yet."""
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as opened:
                names = opened.keys()
                tensors |= {name: opened.get_tensor(name) for name in names}
        except (OSError, SafetensorError) as error:
            raise RefusedError(f"{path} cannot be read: {error}") from None
    return tensors


def check_weights(found: Mapping[str, Tensor], skeleton: nn.Module, what: str) -> None:
    """Raise RefusedError unless they are those of the model."""
    wanted = {name: tuple(tensor.shape) for name, tensor in named_weights(skeleton).items()}
    stored = {name: tuple(tensor.shape) for name, tensor in found.items()}
    if odd := sorted(set(wanted) ^ set(stored)):
        raise RefusedError(f"{what}: these tensors are in one of weights and model only: {', '.join(odd[:5])}")
    for name, shape in wanted.items():
        if stored[name] != shape:
            raise RefusedError(f"{what}: {name} has shape {list(stored[name])}, the model wants {list(shape)}")
