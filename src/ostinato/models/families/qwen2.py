"""Qwen2 and Qwen2.5 (arXiv:2407.10671): Llama with biases on query, key and value, and a window in the upper layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostinato.core.registry import FAMILIES
from ostinato.models.blocks import Shape
from ostinato.models.family import Family, Options, layer_types, read_windows


@FAMILIES.register("qwen2")
class Qwen2(Family):
    """Qwen2ForCausalLM."""

    architecture = "Qwen2ForCausalLM"
    fixed: Options = {"qkv_bias": True}

    @classmethod
    def options(cls, config: Mapping[str, Any]) -> Options:
        return super().options(config) | upper_windows(config)

    @classmethod
    def config(cls, options: Mapping[str, Any], shape: Shape, vocab_size: int, max_positions: int) -> Options | None:
        found = super().config(options, shape, vocab_size, max_positions)
        return None if found is None else found | window_fields(options, shape)


def upper_windows(config: Mapping[str, Any]) -> Options:
    """The window of the layers from `max_window_layers` on, where it is used at all."""
    if not config.get("use_sliding_window", False):
        return {}
    if config.get("layer_types") is not None:
        return read_windows(config)
    first, layers = config.get("max_window_layers", 28), config["num_hidden_layers"]
    return {"window": config.get("sliding_window", 4096), "window_layers": list(range(first, layers))}


def window_fields(options: Mapping[str, Any], shape: Shape) -> Options:
    """The same, as the fields of config.json."""
    fields = {"use_sliding_window": options["window"] is not None, "sliding_window": options["window"]}
    first = min(shape.window_layers, default=shape.layers)
    return fields | {"layer_types": layer_types(shape), "max_window_layers": first}
