"""Tiny random models of transformers' families, and the native model with the same weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ostinato.core.config import Component
from ostinato.core.inputs import ModelInputs
from ostinato.data.tokenizer_kinds import byte
from ostinato.training.initialise import build_model

WINDOW, ORIGINAL, LENGTH = 7, 32, 64  # the window, the rope's length before stretching, the longest text
VOCABULARY, ENDS = byte().vocab_size, byte().eos_ids
FACTORS = {"rope_short_factors": [1.0, 1.1, 1.3], "rope_long_factors": [1.5, 3.0, 4.0]}


def rope(kind: str, **facts: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **facts}}


DOUBLED = {"original_max_position_embeddings": ORIGINAL, "factor": 2.0}
STRETCHED = {"rope_factor": LENGTH / ORIGINAL, "rope_original_length": ORIGINAL}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, **DOUBLED}
GEMMA: dict[str, Any] = {
    "mlp": "geglu_tanh", "norm_eps": 1e-6, "norm_placement": "both", "norm_offset": 1.0, "scaled_embeddings": True,
    "attention_scale": 24**-0.5, "tied_embeddings": True, "head_width": 16, "window": WINDOW, "window_layers": [0, 2],
}  # fmt: skip
GEMMA_CONFIG = {"head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": WINDOW}
QWEN_WINDOW = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
PHI_ROPE = {"rope_theta": 10000.0, "partial_rotary_factor": 0.75}
GPT2 = {
    "mlp": "gelu_tanh", "norm": "layer", "positions": "learned", "tied_embeddings": True,
    "qkv_bias": True, "output_bias": True, "mlp_bias": True, "norm_bias": True,
}  # fmt: skip

# class of transformers, what its config says beside the sizes, our options beside the sizes
FAMILIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama2": ("Llama", {"num_key_value_heads": 4}, {"kv_heads": 4}),
    "llama3": ("Llama", rope("llama3", **LLAMA3), {"rope_scaling": "llama3", **STRETCHED}),
    "linear": ("Llama", rope("linear", factor=4.0), {"rope_scaling": "linear", "rope_factor": 4.0}),
    "dynamic": (
        "Llama",
        {"max_position_embeddings": ORIGINAL, **rope("dynamic", factor=2.0)},
        {"rope_scaling": "dynamic", **STRETCHED},
    ),
    "yarn": ("Llama", rope("yarn", **DOUBLED), {"rope_scaling": "yarn", **STRETCHED}),
    "smollm": ("Llama", {"tie_word_embeddings": True}, {"tied_embeddings": True}),
    "mistral": ("Mistral", {"sliding_window": WINDOW}, {"window": WINDOW}),
    "qwen2": ("Qwen2", {}, {"qkv_bias": True, "norm_eps": 1e-6}),
    "qwen2_window": (
        "Qwen2",
        {**QWEN_WINDOW},
        {"qkv_bias": True, "norm_eps": 1e-6, "window": WINDOW, "window_layers": [1, 2]},
    ),
    "qwen3": ("Qwen3", {"head_dim": 16}, {"qk_norm": True, "head_width": 16, "norm_eps": 1e-6}),
    "gemma2": (
        "Gemma2",
        {**GEMMA_CONFIG, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        {**GEMMA, "attention_softcap": 2.0, "logit_softcap": 3.0},
    ),
    "gemma3": (
        "Gemma3Text",
        {
            **GEMMA_CONFIG,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
        {
            **{**GEMMA, "qk_norm": True, "rope_base": 1e6, "rope_local_base": 1e4},
            **{"rope_scaling": "linear", "rope_factor": 8.0},
        },
    ),
    "phi3": (
        "Phi3",
        {"sliding_window": WINDOW, "rope_parameters": {"rope_type": "default", **PHI_ROPE}},
        {"rope_fraction": 0.75, "window": WINDOW},
    ),
    "phi3_longrope": (
        "Phi3",
        {
            "original_max_position_embeddings": ORIGINAL,
            "rope_parameters": {
                "rope_type": "longrope",
                **{name.removeprefix("rope_").removesuffix("s"): factors for name, factors in FACTORS.items()},
                **PHI_ROPE,
            },
        },
        {"rope_fraction": 0.75, "rope_scaling": "longrope", **STRETCHED, **FACTORS},
    ),
    "gpt2": ("GPT2", {}, GPT2),
    "olmo2": ("Olmo2", {}, {"norm_placement": "after", "qk_norm": True, "qk_norm_over": "heads"}),
}
SIZES = {"width": 32, "layers": 3, "heads": 4, "kv_heads": 2, "mlp_width": 48, "max_positions": LENGTH}
CONFIG_SIZES = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": LENGTH,
}  # fmt: skip
EPS = {"Llama": 1e-5, "Mistral": 1e-5, "Phi3": 1e-5, "Olmo2": 1e-5}
GPT2_SIZES = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": LENGTH, "n_inner": 48}


def theirs(family: str) -> Any:
    """A model of transformers with weights far from its own fresh ones; norms are random too."""
    import transformers

    name, extra, _ = FAMILIES[family]
    sizes: dict[str, Any] = GPT2_SIZES if name == "GPT2" else {**CONFIG_SIZES, "rms_norm_eps": EPS.get(name, 1e-6)}
    tokens = {"vocab_size": VOCABULARY, "pad_token_id": None, "bos_token_id": None, "eos_token_id": list(ENDS)}
    config = getattr(transformers, f"{name}Config")(**{**sizes, **tokens, **extra})
    kind = {"GPT2": "GPT2LMHeadModel", "Gemma3Text": "Gemma3ForCausalLM"}.get(name, f"{name}ForCausalLM")
    config._attn_implementation = "eager"
    model = getattr(transformers, kind)(config).eval()
    draw = torch.Generator().manual_seed(5)
    for label, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=draw)
        start = 0.0 if weight.dim() > 1 or name.startswith("Gemma") or label.endswith("bias") else 1.0
        weight.data = start + (0.15 if weight.dim() > 1 else 0.1) * noise
    return model


def ours(family: str, **more: Any) -> Any:
    torch.set_num_threads(1)
    node = Component("transformer", {**SIZES, **FAMILIES[family][2], **more})
    if FAMILIES[family][0] == "GPT2":
        node.options["kv_heads"] = None
    return build_model(node, ModelInputs(VOCABULARY, LENGTH), 0, torch.device("cpu")).eval()


def renamed(family: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by transformers' names, weights or gradients, by ours."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if family == "gpt2":
            found |= gpt2(name, tensor)
        elif "qkv_proj" in name:
            parts = tensor.split((32, 16, 16))
            found |= {name.replace("qkv", letter): part for letter, part in zip("qkv", parts, strict=True)}
        elif "gate_up_proj" in name:
            gate, up = tensor.chunk(2)
            found |= {name.replace("gate_up", "gate"): gate, name.replace("gate_up", "up"): up}
        else:
            found[name] = tensor
    return found


def gpt2(name: str, tensor: Tensor) -> dict[str, Tensor]:
    for theirs, own in {
        "transformer.wte": "model.embed_tokens", "transformer.wpe": "model.embed_positions", "ln_f": "norm",
        "transformer.h.": "model.layers.", "ln_1": "input_layernorm", "ln_2": "post_attention_layernorm",
        "attn.c_proj": "self_attn.o_proj", "mlp.c_fc": "mlp.up_proj", "mlp.c_proj": "mlp.down_proj",
        "transformer.norm": "model.norm",
    }.items():  # fmt: skip
        name = name.replace(theirs, own)
    if tensor.dim() > 1 and "proj" in name or "c_attn.weight" in name:  # stored the other way round
        tensor = tensor.T
    if "c_attn" not in name:
        return {name: tensor}
    return {name.replace("attn.c_attn", f"self_attn.{p}_proj"): t for p, t in zip("qkv", tensor.chunk(3), strict=True)}


def pair(family: str, **more: Any) -> tuple[Any, Any]:
    """The two models of the same weights."""
    model, own = theirs(family), ours(family, **more)
    weights = renamed(family, dict(model.named_parameters()))
    own.load_state_dict(weights)
    return model, own
