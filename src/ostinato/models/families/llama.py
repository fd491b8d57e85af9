"""Llama 2 and 3 (arXiv:2302.13971, 2307.09288, 2407.21783); SmolLM is one too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostinato.core.registry import FAMILIES
from ostinato.models.blocks import Shape
from ostinato.models.family import Family, Options


@FAMILIES.register("llama")
class Llama(Family):
    """LlamaForCausalLM."""

    architecture = "LlamaForCausalLM"
    bias = "attention_bias"

    @classmethod
    def options(cls, config: Mapping[str, Any]) -> Options:
        return super().options(config) | {"mlp_bias": bool(config.get("mlp_bias", False))}

    @classmethod
    def config(cls, options: Mapping[str, Any], shape: Shape, vocab_size: int, max_positions: int) -> Options | None:
        found = super().config(options, shape, vocab_size, max_positions)
        return None if found is None else found | {"mlp_bias": options["mlp_bias"]}
