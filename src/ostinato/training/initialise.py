"""Fresh weights: each parameter is drawn from a key of its own name; order, device and sharding do not matter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import nn

from ostinato.core import seeding
from ostinato.core.config import Component
from ostinato.core.inputs import ModelInputs
from ostinato.core.registry import MODELS


def build_model(
    node: Component,
    inputs: ModelInputs,
    seed: int,
    device: torch.device,
    filled: Callable[[nn.Module], Collection[str]] | None = None,
) -> nn.Module:
    """Build a registered model and draw its weights.

    A model with `initial_value(name, shape, generator)` is built without memory and filled parameter by parameter.
    Any other module is built by torch's own initialisation, each submodule under the key of its name. Weights that
    `filled` names of the model are given their values afterwards: they are not drawn.
    """
    if hasattr(MODELS.get(node.name), "initial_value"):
        with torch.device("meta"):
            model = MODELS.build(node, inputs)
        model.to_empty(device=device)
        draw_parameters(model, seed, filled(model) if filled else ())
        return model
    with seeding.preserved_global():
        seeding.reset_global(seed, "init")
        model = MODELS.build(node, inputs)
        for name, module in model.named_modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                seeding.reset_global(seed, "init", name)
                reset()
    return model.to(device)


@torch.no_grad()
def draw_parameters(model: Any, seed: int, but: Collection[str] = ()) -> None:
    """Fill each parameter, `but` some, from its own CPU generator: whole, in fp32, then cast and moved."""
    for name, parameter in model.named_parameters():
        if name in but:
            continue
        value = model.initial_value(name, tuple(parameter.shape), seeding.generator(seed, "init", name))
        parameter.copy_(value)


def parameter_groups(models: Mapping[str, nn.Module]) -> list[dict[str, object]]:
    """Trainable parameters of each model in two groups: `matrix` (two dimensions or more, weight decay applies) and
    `other`. Names are those in the model; beside the one called `model`, a model's name stands before them."""
    groups = []
    for label, model in models.items():
        prefix = "" if label == "model" else f"{label}."
        for role, wanted in (("matrix", True), ("other", False)):
            named = [(n, p) for n, p in model.named_parameters() if p.requires_grad and (p.dim() >= 2) is wanted]
            if named:
                names = [prefix + n for n, _ in named]
                groups.append({"params": [p for _, p in named], "names": names, "role": role, "model": label})
    return groups


def counted(models: Mapping[str, nn.Module]) -> str:
    """`1,234 parameters`, and of how many of them are trained, if not all; what models share counts once."""
    every = {parameter for model in models.values() for parameter in model.parameters()}
    parameters, trained = (sum(p.numel() for p in part) for part in (every, [p for p in every if p.requires_grad]))
    return f"{parameters:,} parameters" + ("" if trained == parameters else f", {trained:,} of them trained")
