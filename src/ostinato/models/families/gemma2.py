"""Gemma 2 (arXiv:2408.00118): norms around each half of a block, capped scores and logits, a window in every other
layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostinato.core.registry import FAMILIES
from ostinato.models.blocks import Shape
from ostinato.models.family import Family, Options, layer_types, read_windows

GEMMA: Options = {"norm_placement": "both", "norm_offset": 1.0, "scaled_embeddings": True}
HEAD_WIDTH = QUERY_SCALE = 256  # the classes' defaults


def gemma_options(config: Mapping[str, Any], found: Options) -> Options:
    """What Gemma 2 and 3 have in common."""
    found["tied_embeddings"] = config.get("tie_word_embeddings", True)
    found["attention_scale"] = config.get("query_pre_attn_scalar", QUERY_SCALE) ** -0.5
    caps = {"attention_softcap": "attn_logit_softcapping", "logit_softcap": "final_logit_softcapping"}
    return found | {option: config[key] for option, key in caps.items() if config.get(key) is not None}


def gemma_config(options: Mapping[str, Any], shape: Shape, found: Options) -> Options:
    """The same, as the fields of config.json. Fields left out would get defaults, so null is said too."""
    scalar = (options["attention_scale"] or shape.head_width**-0.5) ** -2
    near = round(scalar)
    return found | {
        "hidden_activation": found.pop("hidden_act"),
        "query_pre_attn_scalar": near if near**-0.5 == options["attention_scale"] else scalar,
        "attn_logit_softcapping": options["attention_softcap"],
        "final_logit_softcapping": options["logit_softcap"],
        "sliding_window": options["window"] or 4096,
        "layer_types": layer_types(shape),
        "attention_bias": options["qkv_bias"],
    }


@FAMILIES.register("gemma2")
class Gemma2(Family):
    """Gemma2ForCausalLM."""

    architecture = "Gemma2ForCausalLM"
    fixed: Options = GEMMA
    bias = "attention_bias"

    @classmethod
    def options(cls, config: Mapping[str, Any]) -> Options:
        caps = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window": 4096}
        config = {"head_dim": HEAD_WIDTH, "hidden_activation": "gelu_pytorch_tanh", **caps, **config}
        return gemma_options(config, super().options(config)) | read_windows(config, every=2)

    @classmethod
    def config(cls, options: Mapping[str, Any], shape: Shape, vocab_size: int, max_positions: int) -> Options | None:
        found = super().config(options, shape, vocab_size, max_positions)
        return None if found is None else gemma_config(options, shape, found)
