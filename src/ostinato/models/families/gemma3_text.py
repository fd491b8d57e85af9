"""Gemma 3 (arXiv:2503.19786), text: a window in five of six layers, with angles of its own; norms on query and key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostinato.core.registry import FAMILIES
from ostinato.models.blocks import Shape
from ostinato.models.families.gemma2 import GEMMA, HEAD_WIDTH, gemma_config, gemma_options
from ostinato.models.family import LAYERS, Family, Options, read_rope, read_windows, refuse


@FAMILIES.register("gemma3_text")
class Gemma3Text(Family):
    """Gemma3ForCausalLM."""

    architecture = "Gemma3ForCausalLM"
    vocab_size = 262_208  # with which config.json may leave it out
    fixed: Options = {**GEMMA, "qk_norm": True}
    bias = "attention_bias"

    @classmethod
    def options(cls, config: Mapping[str, Any]) -> Options:
        defaults = {"head_dim": HEAD_WIDTH, "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 4096}
        heads = {"num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 131_072}
        config = {**defaults, **heads, "rope_theta": 1e6, **config}
        if config.get("use_bidirectional_attention"):
            raise refuse("use_bidirectional_attention", True)
        found = gemma_options(config, super().options(config))
        found |= read_rope(config, found["max_positions"], LAYERS[False])
        found |= read_windows(config, every=config.get("sliding_window_pattern", 6))
        if "window" in found:
            rope = (config.get("rope_parameters") or {}).get(LAYERS[True], {})
            found["rope_local_base"] = float(rope.get("rope_theta") or config.get("rope_local_base_freq") or 1e4)
        return found

    @classmethod
    def config(cls, options: Mapping[str, Any], shape: Shape, vocab_size: int, max_positions: int) -> Options | None:
        found = super().config(options, shape, vocab_size, max_positions)
        if found is None:
            return None
        found = gemma_config(options, shape, found)
        local = {"rope_type": "default", "rope_theta": options["rope_local_base"] or 1e4}
        ropes = {LAYERS[False]: found["rope_parameters"], LAYERS[True]: local}
        return found | {"rope_parameters": ropes, "rope_local_base_freq": local["rope_theta"]}
