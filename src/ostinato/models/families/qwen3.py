"""Qwen3 (arXiv:2505.09388): Qwen2 with norms on each head's query and key, and without biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostinato.core.registry import FAMILIES
from ostinato.models.blocks import Shape
from ostinato.models.families.qwen2 import upper_windows, window_fields
from ostinato.models.family import Family, Options


@FAMILIES.register("qwen3")
class Qwen3(Family):
    """Qwen3ForCausalLM."""

    architecture = "Qwen3ForCausalLM"
    fixed: Options = {"qk_norm": True}
    bias = "attention_bias"

    @classmethod
    def options(cls, config: Mapping[str, Any]) -> Options:
        found = super().options({"head_dim": 128, **config})  # the class's default, unlike the others'
        return found | upper_windows(config)

    @classmethod
    def config(cls, options: Mapping[str, Any], shape: Shape, vocab_size: int, max_positions: int) -> Options | None:
        found = super().config(options, shape, vocab_size, max_positions)
        return None if found is None else found | window_fields(options, shape)
