"""Which class of transformers a model becomes, and its config.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn

from ostinato.core.config import Component
from ostinato.core.inputs import ModelInputs
from ostinato.core.registry import MODELS
from ostinato.data.tokenizer import Tokenizer
from ostinato.training.adapters import AdapterOrigin
from ostinato.training.foreign_weights import Whole, piece_of
from ostinato.training.model_files import plain
from ostinato.training.score_model import score_config, with_padding_token
from ostinato.training.weights import Origin

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


Kind = Literal["causal", "scores", "own", "adapter"]


@dataclass
class ExportedModel:
    """`kind`: causal (a language model), scores (a reward or value model), own (only ostinato can load it), adapter.

    `skeleton`: the model without memory, for names and shapes; None for the last two. `pieces`: where a weight lies in
    the files of its class.
    """

    kind: Kind
    node: Component
    inputs: ModelInputs
    config: dict[str, Any]
    tokenizer: Tokenizer | None
    skeleton: nn.Module | None = None
    notes: list[str] = field(default_factory=list)
    pieces: Callable[[str], Any] = Whole

    @property
    def architecture(self) -> str | None:
        """LlamaForCausalLM; None for a model of ostinato's own, and for an adapter."""
        return self.config["architectures"][0] if self.kind in ("causal", "scores") else None


def describe_model(origin: Origin) -> ExportedModel:
    """From the model's node alone; nothing is loaded."""
    node, inputs = origin.model
    tokenizer = tokenizer_of(origin)
    notes = [] if tokenizer else ["no tokenizer: this is no model of text"]
    output = node.options.get("output", "tokens")
    skeleton = build_skeleton(node, inputs)
    language_model = skeleton if output == "tokens" else build_skeleton(with_tokens(node), inputs)
    config = language_model.hf_config() if language_model is not None else None
    if config is not None and output == "scalar":
        config = score_config(config)
    if config is None:
        own = {"name": node.name, "options": plain(node.options), "inputs": vars(inputs)}
        notes.append(f"transformers has no class that computes what this {node.name} does: only ostinato loads it")
        return ExportedModel("own", node, inputs, {"ostinato": own}, tokenizer, None, notes)
    kind: Kind = "scores" if output == "scalar" else "causal"
    if kind == "scores" and tokenizer is not None:
        tokenizer, note = with_padding_token(tokenizer)
        notes += [note] if note else []
    if output == "both":
        notes.append("its value head is left out: a language model has none")
    config |= token_ids(tokenizer)
    return ExportedModel(kind, node, inputs, config, tokenizer, skeleton, notes, piece_of(skeleton, config))


def tokenizer_of(origin: Origin) -> Tokenizer | None:
    """Its own, else that of the base of an adapter; None of a model without text."""
    base = origin.base if isinstance(origin, AdapterOrigin) else None
    folders = [origin.folder, *([base.folder] if base else [])]
    there = any((folder / name).is_file() for folder in folders for name in TOKENIZER_FILES)
    return origin.tokenizer() if there else None


def build_skeleton(node: Component, inputs: ModelInputs) -> Any:
    """The model on the meta device; None for one that no class of transformers can be."""
    if not hasattr(MODELS.get(node.name), "hf_config"):
        return None
    with torch.device("meta"):
        return MODELS.build(node, inputs)


def with_tokens(node: Component) -> Component:
    """The same model as a language model."""
    return replace(node, options={**node.options, "output": "tokens"})


def token_ids(tokenizer: Tokenizer | None) -> dict[str, Any]:
    """The special ids as config.json has them. None is said too: a class has defaults, made for another vocabulary."""
    if tokenizer is None:
        return {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    ends = list(tokenizer.eos_ids)
    eos = ends[0] if len(ends) == 1 else ends or None
    return {"bos_token_id": tokenizer.bos_id, "eos_token_id": eos, "pad_token_id": tokenizer.pad_id}
