"""The models an algorithm trains: one as a rule; PPO's critic beside its policy."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from ostinato.core.config import Component, Config
from ostinato.core.errors import UserError
from ostinato.core.inputs import ModelInputs
from ostinato.core.registry import MODELS
from ostinato.core.signatures import signature_of
from ostinato.training.adapters import adapted, share_base
from ostinato.training.initialise import build_model
from ostinato.training.weights import Origin, find_weights


def with_output(node: Component, output: str) -> Component:
    """The node of the same model with another kind of output: `tokens`, `scalar` or `both`."""
    if node.options.get("output", "tokens") == output:
        return node
    if "output" not in signature_of(MODELS.get(node.name)):  # a folder's node names only what is not as usual
        raise UserError(f"model.name: {node.name} has no option `output`; this algorithm needs a model with {output}.")
    return replace(node, options={**node.options, "output": output})


class ModelMaker:
    """`make()` is the config's model, from its origin's weights if it has one, on this rank's device."""

    def __init__(
        self, config: Config, node: Component, inputs: ModelInputs, device: torch.device, origin: Origin | None
    ) -> None:
        self.config, self.node, self.inputs, self.device, self.origin = config, node, inputs, device, origin
        self.first: nn.Module | None = None

    def __call__(self, output: str | None = None, init_from: str | None = None) -> nn.Module:
        """The model, if need be with another `output` or with the weights of another run or folder of its shape.

        With an adapter, a further model has one of its own, and shares what is frozen with the first where it can.
        """
        node = self.node if output is None else with_output(self.node, output)
        origin = find_weights(init_from, self.config.experiment.output_root) if init_from else self.origin
        seed, adapter = self.config.experiment.seed, self.config.model.adapter
        model = build_model(node, self.inputs, seed, self.device, origin.fills if origin else None)
        if adapter is not None:
            model = adapted(model, adapter, origin, seed)
            if self.first is not None:
                share_base(model, self.first)
        elif origin is not None:
            origin.load_into(model)
        self.first = self.first or model
        return model
