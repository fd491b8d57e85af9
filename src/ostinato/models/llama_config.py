"""The config.json under which a class of transformers computes what our model does, under the same weight names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostinato.models.blocks import Shape

PLAIN = {
    "mlp": "swiglu",
    "norm": "rms",
    "positions": "rope",
    "norm_bias": False,
    "norm_placement": "before",
    "norm_offset": 0.0,
    "scaled_embeddings": False,
    "qk_norm_over": "head",
    "attention_scale": None,
    "window_layers": None,
    "rope_local_base": None,
    "rope_fraction": 1.0,
    "attention_softcap": None,
    "logit_softcap": None,
    "logit_scale": 1.0,
}
CLASSES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}


def family(options: Mapping[str, Any]) -> str | None:
    """llama, mistral, qwen2 or qwen3 by their biases, window and query-key norms; None for other shapes."""
    if any(options[name] != value for name, value in PLAIN.items()) or options["rope_scaling"] == "longrope":
        return None
    biases = options["qkv_bias"], options["output_bias"], options["mlp_bias"]
    if options["qk_norm"]:
        return "qwen3" if biases[0] == biases[1] and not biases[2] and not options["window"] else None
    if options["window"]:
        return None if any(biases) else "mistral"
    if biases == (True, False, False):
        return "qwen2"
    return "llama" if biases[0] == biases[1] else None


def rope_parameters(options: Mapping[str, Any], max_positions: int) -> dict[str, Any]:
    """The angles, in transformers' words."""
    kind = options["rope_scaling"]
    original = options["rope_original_length"] or max_positions
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": options["rope_base"]}
    if kind != "none":
        rope |= {"rope_type": kind, "factor": options["rope_factor"]}
    if kind in ("llama3", "yarn"):
        rope["original_max_position_embeddings"] = original
    if kind == "llama3":
        rope["low_freq_factor"] = options["rope_low_frequency_factor"]
        rope["high_freq_factor"] = options["rope_high_frequency_factor"]
    if kind == "yarn":
        rope |= {"beta_fast": options["rope_beta_fast"], "beta_slow": options["rope_beta_slow"]}
        if options["rope_attention_factor"] is not None:
            rope["attention_factor"] = options["rope_attention_factor"]
    return rope


def llama_config(
    options: Mapping[str, Any], shape: Shape, vocab_size: int, max_positions: int
) -> dict[str, Any] | None:
    """None where the shape is none of CLASSES'."""
    kind = family(options)
    if kind is None:
        return None
    if options["rope_scaling"] == "dynamic":  # there it is the model's length that the angles grow from
        max_positions = options["rope_original_length"] or max_positions
    config = {
        "architectures": [f"{CLASSES[kind]}ForCausalLM"],
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
        "rope_parameters": rope_parameters(options, max_positions),
        "rope_theta": options["rope_base"],
        "tie_word_embeddings": options["tied_embeddings"],
        "dtype": "float32",
    }
    if kind in ("llama", "qwen3"):
        config["attention_bias"] = options["qkv_bias"]
    if kind == "llama":
        config["mlp_bias"] = options["mlp_bias"]
    if kind == "mistral":
        config["sliding_window"] = options["window"]
    return config
