"""Models of which an adapter is trained: where their frozen weights come from, and how a folder of one is opened.

A checkpoint of such a run holds the adapter alone, in peft's format. Its config.json says where the base is from and
what it hashes to, so that a base that changed is refused.
"""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ostinato.core.config import Component
from ostinato.core.errors import UserError
from ostinato.core.inputs import ModelInputs
from ostinato.core.manifest import hash_of, json_object
from ostinato.core.registry import MODELS
from ostinato.data.tokenizer import Tokenizer
from ostinato.training.base_weights import base_hashes, digests_of, refuse_other_base
from ostinato.training.checkpoint import load_into
from ostinato.training.initialise import build_model
from ostinato.training.model_files import plain
from ostinato.training.state import named_weights
from ostinato.training.vocabulary import growth, with_new_rows
from ostinato.training.weights import Origin, find_weights

log = logging.getLogger(__name__)

CONFIG = "adapter_config.json"
FROZEN_ROWS = (
    "the rows of new tokens are frozen, so these tokens are one and the same to the model; "
    "name the embedding in model.adapter.modules_to_save"
)
FREE = ("dropout", "path")  # options that may differ where an adapter is trained on


def adapted(model: Any, node: Component, origin: Origin | None, seed: int) -> nn.Module:
    """A fresh model with the weights of its origin, frozen, and the adapter that `node` describes.

    An origin whose own adapter has the same options is trained on; any other one is merged into the base first.
    """
    goes_on = isinstance(origin, AdapterOrigin) and origin.continues(node) and growth(origin, model) is None
    base: Any = origin.base if goes_on else origin  # type: ignore[union-attr]
    source: dict[str, Any] = {"folder": None, "seed": seed}
    if goes_on:
        assert isinstance(origin, AdapterOrigin)
        origin.load_base(model)
        source = origin.source
    elif base is not None:
        base.load_into(model)
        source = {"folder": str(base.folder.resolve()), "lineage": base.lineage}
    grown, model = growth(base, model), built(node, model, seed)
    if grown is not None and not any("embed" in name for name in model.adapter.whole):
        log.warning(FROZEN_ROWS)
    if goes_on:
        model.adapter.load(model, origin.folder)  # type: ignore[union-attr]
    found: dict[str, Any] = base_hashes(model)
    if goes_on:
        refuse_other_base(source, found, str(origin.folder))  # type: ignore[union-attr]
    if goes_on or node.options.get("path"):  # a reference starts from this, so it must not change either
        found["start_xxh3"] = hash_of(digests_of(model.adapter.stored(model)))
    model.adapter.base = {**source, **found}
    return model


def built(node: Component, model: Any, seed: int) -> Any:
    """The model with the adapter of `node`, which knows the digests of the base."""
    if next(iter(inspect.signature(MODELS.get(node.name)).parameters), "") != "model":
        raise UserError(f"model.adapter.name: {node.name} is no adapter. Write {{name: lora}}.")
    digests = digests_of(named_weights(model))
    model = MODELS.build(node, model, seed)
    model.adapter.digests = digests
    return model


def share_base(model: Any, other: Any) -> None:
    """Let the frozen weights of a model be those of another where they are the same: one set in memory."""
    frozen = {name: one for name, one in other.named_parameters() if not one.requires_grad}
    ours, theirs = model.adapter.digests, other.adapter.digests
    for name, own in list(model.named_parameters()):
        if not own.requires_grad and name in frozen and ours.get(name, name) == theirs.get(name):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, frozen[name])


@dataclass(frozen=True)
class AdapterOrigin(Origin):
    """A folder with an adapter in peft's format. What is loaded from it is the merged model, unless one asks for less.

    `root` is where the runs are that the base may be from.
    """

    root: Path = Path()

    @cached_property
    def own(self) -> dict[str, Any]:
        """What config.json says of the model, {} in a folder that peft wrote."""
        return json_object(self.folder / "config.json").get("ostinato", {})

    @property
    def source(self) -> dict[str, Any]:
        """Where the base is from: `folder`, `lineage`, `seed`, `xxh3`, as far as they are known."""
        if self.own:
            return self.own["base"]
        named = json_object(self.folder / CONFIG).get("base_model_name_or_path")
        if not named:
            raise UserError(f"{self.folder / CONFIG}: base_model_name_or_path is empty. Name the base's folder there.")
        return {"folder": named}

    @cached_property
    def base(self) -> Origin | None:
        """The origin of the base; None where it is fresh weights, drawn from a seed."""
        lineage, folder = self.source.get("lineage", {}), self.source["folder"]
        if folder is None:
            return None
        if lineage.get("run") and (self.root / lineage["run"]).is_dir():
            return find_weights(f"run:{lineage['run']}@{lineage['step']}", self.root, key=str(self.folder))
        if not Path(folder).is_dir() and self.folder.joinpath(folder).is_dir():
            folder = str(self.folder / folder)
        hub = str(lineage.get("hub", "" if self.own else f"hub:{folder}"))
        if not Path(folder).is_dir() and hub.startswith("hub:"):
            folder = hub
        elif not Path(folder).is_dir():
            run = f", or the run {lineage['run']} in {self.root}" if lineage.get("run") else ""
            raise UserError(f"{self.folder}: the base of this adapter is not here any more: {folder}{run}. Restore it.")
        return find_weights(folder, self.root, key=str(self.folder))

    @property
    def model(self) -> tuple[Component, ModelInputs]:
        return super().model if self.own or self.base is None else self.base.model

    def tokenizer(self) -> Tokenizer:
        own = (self.folder / "tokenizer.json").is_file() or self.base is None
        return super().tokenizer() if own else self.base.tokenizer()  # type: ignore[union-attr]

    def pin(self, child: str) -> None:
        super().pin(child)
        if self.base is not None:
            self.base.pin(child)

    def continues(self, node: Component) -> bool:
        """Whether the adapter that `node` describes is the one of this folder."""
        mine, theirs = (
            {name: value or None for name, value in plain(options).items() if name not in FREE}
            for options in (self.own.get("adapter", {}), {"name": node.name, **node.options})
        )
        return node.options.get("path") is None and mine == theirs

    def fills(self, model: nn.Module) -> set[str]:
        """Those of the base's folder: an adapter changes weights that are there."""
        return self.base.fills(model) if self.base is not None else set()

    def load_into(self, model: nn.Module) -> None:
        """Base and adapter, merged; the dtypes stay the model's."""
        if (grown := growth(self, model)) is not None:
            return self.load_grown(model, grown)
        kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
        self.load_base(model)
        held = built(self.node, model, 0)
        refuse_other_base(self.source, base_hashes(held), str(self.folder))
        held.adapter.load(held, self.folder)
        held.adapter.merge(held)
        for name, parameter in model.named_parameters():
            parameter.data = parameter.data.to(kinds[name])
        return None

    def load_grown(self, model: nn.Module, grown: tuple[int, int]) -> None:
        """The merged model in a larger one, as tokens were added since. Heads that only one has stay as they are."""
        own = build_model(*self.model, 0, next(model.parameters()).device)
        self.load_into(own)
        found, wanted = named_weights(own), named_weights(model)
        wanted = {name: weight for name, weight in wanted.items() if name in found}
        larger = {name: with_new_rows(found[name].detach(), one.shape, grown) for name, one in wanted.items()}
        load_into(wanted, larger, str(self.folder))

    @property
    def node(self) -> Component:
        """The adapter's node; a folder that peft wrote describes itself."""
        options = dict(self.own["adapter"]) if self.own else {"path": self.folder}
        return Component(str(options.pop("name", "lora")), options)

    def load_base(self, model: nn.Module) -> None:
        """The base's weights alone. Heads that only one of the two has stay as they are."""
        if self.base is not None:
            return self.base.load_into(model)
        device = next(model.parameters()).device
        drawn = named_weights(build_model(*self.model, self.source["seed"], device))
        with torch.no_grad():
            for name, weight in named_weights(model).items():
                if name in drawn:
                    weight.copy_(drawn[name])
        return None
