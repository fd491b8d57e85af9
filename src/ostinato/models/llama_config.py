"""The config.json under which transformers' LlamaForCausalLM (or MistralForCausalLM) computes what our model does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostinato.models.blocks import Shape

PLAIN = {
    "mlp": "swiglu",
    "norm": "rms",
    "positions": "rope",
    "qk_norm": False,
    "norm_bias": False,
    "attention_softcap": None,
    "logit_softcap": None,
    "logit_scale": 1.0,
}


def llama_config(
    options: Mapping[str, Any], shape: Shape, vocab_size: int, max_positions: int
) -> dict[str, Any] | None:
    """None where the shape is no Llama's or Mistral's, or its rope scaling is not written yet."""
    scalings = ("none", "linear", "llama3")
    if any(options[name] != value for name, value in PLAIN.items()) or options["rope_scaling"] not in scalings:
        return None
    if options["qkv_bias"] != options["output_bias"] or (options["window"] and options["qkv_bias"]):
        return None
    kind = "mistral" if options["window"] else "llama"
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": options["rope_base"]}
    if options["rope_scaling"] != "none":
        rope |= {"rope_type": options["rope_scaling"], "factor": options["rope_factor"]}
    if options["rope_scaling"] == "llama3":
        rope |= {
            "low_freq_factor": options["rope_low_frequency_factor"],
            "high_freq_factor": options["rope_high_frequency_factor"],
            "original_max_position_embeddings": options["rope_original_length"] or max_positions,
        }
    config = {
        "architectures": ["LlamaForCausalLM" if kind == "llama" else "MistralForCausalLM"],
        "model_type": kind,
        "vocab_size": vocab_size,
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp_width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "hidden_act": "silu",
        "max_position_embeddings": max_positions,
        "rms_norm_eps": shape.norm_eps,
        "rope_parameters": rope,
        "rope_theta": options["rope_base"],
        "tie_word_embeddings": options["tied_embeddings"],
        "attention_bias": options["qkv_bias"],
        "mlp_bias": options["mlp_bias"],
        "dtype": "float32",
    }
    return config | ({"sliding_window": options["window"]} if kind == "mistral" else {})
