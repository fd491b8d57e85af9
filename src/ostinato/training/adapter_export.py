"""An adapter alone, as peft's folder: adapter_config.json with the name of the base, adapter_model.safetensors."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from ostinato.core.errors import UserError
from ostinato.training.adapters import CONFIG, AdapterOrigin
from ostinato.training.export_config import ExportedModel, describe_model
from ostinato.training.weights import Origin

TENSORS = "adapter_model.safetensors"


def describe_adapter(origin: Origin) -> ExportedModel:
    """UserError where no class of transformers has the base's names, or the base is nowhere to be loaded from."""
    assert isinstance(origin, AdapterOrigin)
    model = describe_model(origin)
    name, config = model.node.name, json.loads((origin.folder / CONFIG).read_bytes())
    if model.skeleton is None:
        raise UserError(
            f"transformers has no class for this {name}, so peft cannot use its adapter. Export with --merge."
        )
    if any(model.pieces(one).name != one for one, _ in model.skeleton.named_parameters()):
        raise UserError(
            f"{model.architecture} has other projections than this {name}. Export the adapter with --merge."
        )
    if model.kind != "causal":
        raise UserError("peft makes a head of its own for a model that gives scores. Use --merge.")
    if origin.base is None:
        raise UserError("the adapter's base is fresh weights that no file holds. Use --merge.")
    config["base_model_name_or_path"] = base_name(origin)
    notes = [*model.notes, "these are the weights of an adapter alone; adapter_config.json names its base"]
    return ExportedModel("adapter", model.node, model.inputs, config, model.tokenizer, None, notes)


def adapter_weights(origin: Origin) -> dict[str, Tensor]:
    """By the names of peft."""
    return load_file(origin.folder / TENSORS)


def base_name(origin: AdapterOrigin) -> str:
    """`org/name` of a hub, else the folder."""
    assert origin.base is not None
    if (hub := origin.base.lineage.get("hub")) is not None:
        return str(hub).removeprefix("hub:").partition("@")[0]
    return str(Path(origin.base.folder).resolve())
