"""Phi-3 and Phi-4-mini (arXiv:2404.14219): Llama with query, key and value in one tensor, gate and up in another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostinato.core.registry import FAMILIES
from ostinato.models.blocks import Shape
from ostinato.models.family import Family, Options, Piece, read_windows


@FAMILIES.register("phi3")
class Phi3(Family):
    """Phi3ForCausalLM."""

    architecture = "Phi3ForCausalLM"
    head_dim = False

    @classmethod
    def options(cls, config: Mapping[str, Any]) -> Options:
        found = super().options({"rms_norm_eps": 1e-5, "max_position_embeddings": 4096, **config})
        return found | read_windows(config)

    @classmethod
    def config(cls, options: Mapping[str, Any], shape: Shape, vocab_size: int, max_positions: int) -> Options | None:
        found = super().config(options, shape, vocab_size, max_positions)
        if found is None:
            return None
        original = found["rope_parameters"].get("original_max_position_embeddings", max_positions)
        return found | {"sliding_window": options["window"], "original_max_position_embeddings": original}

    @classmethod
    def pieces(cls, name: str, shape: Shape) -> Piece:
        query, key = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
        places = {
            "q_proj": ("qkv_proj", 0, query),
            "k_proj": ("qkv_proj", query, query + key),
            "v_proj": ("qkv_proj", query + key, query + 2 * key),
            "gate_proj": ("gate_up_proj", 0, shape.mlp_width),
            "up_proj": ("gate_up_proj", shape.mlp_width, 2 * shape.mlp_width),
        }
        part = name.rpartition(".")[0].rpartition(".")[2]
        if part not in places:
            return Piece(name)
        other, start, stop = places[part]
        return Piece(name.replace(part, other), start, stop)
