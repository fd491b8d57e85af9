"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm, GELU; matrices lie the other way round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostinato.core.registry import FAMILIES
from ostinato.models.blocks import Shape
from ostinato.models.family import Family, Options, Piece, refuse, required

FIXED: Options = {
    "norm": "layer", "positions": "learned",
    "qkv_bias": True, "output_bias": True, "mlp_bias": True, "norm_bias": True,
}  # fmt: skip
ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
NAMES = {
    "model.embed_tokens": "transformer.wte",
    "model.embed_positions": "transformer.wpe",
    "model.norm": "transformer.ln_f",
    "input_layernorm": "ln_1",
    "post_attention_layernorm": "ln_2",
    "self_attn.o_proj": "attn.c_proj",
    "mlp.up_proj": "mlp.c_fc",
    "mlp.down_proj": "mlp.c_proj",
    "model.layers.": "transformer.h.",
}


@FAMILIES.register("gpt2")
class GPT2(Family):
    """GPT2LMHeadModel. Its dropout is not taken over: set model.dropout."""

    architecture = "GPT2LMHeadModel"
    prefix = "transformer."
    ignored = (".attn.bias", ".attn.masked_bias")
    fixed = FIXED

    @classmethod
    def options(cls, config: Mapping[str, Any]) -> Options:
        name = config.get("activation_function", "gelu_new")
        if name not in ACTIVATIONS:
            raise refuse("activation_function", name)
        for key, usual in (("scale_attn_weights", True), ("scale_attn_by_inverse_layer_idx", False)):
            if config.get(key, usual) is not usual:
                raise refuse(key, config[key])
        width = required(config, "n_embd")
        return {
            "width": width,
            "layers": required(config, "n_layer"),
            "heads": required(config, "n_head"),
            "mlp_width": config.get("n_inner") or 4 * width,
            "mlp": ACTIVATIONS[name],
            "norm_eps": config.get("layer_norm_epsilon", 1e-5),
            "max_positions": config.get("n_positions", 1024),
            "tied_embeddings": config.get("tie_word_embeddings", True),
            **FIXED,
        }

    @classmethod
    def config(cls, options: Mapping[str, Any], shape: Shape, vocab_size: int, max_positions: int) -> Options | None:
        if options["positions"] != "learned" or shape.mlp not in ACTIVATIONS.values():
            return None
        return {
            "vocab_size": vocab_size,
            "n_embd": shape.width,
            "n_layer": shape.layers,
            "n_head": shape.heads,
            "n_inner": shape.mlp_width,
            "n_positions": max_positions,
            "n_ctx": max_positions,
            "activation_function": {kind: name for name, kind in reversed(ACTIVATIONS.items())}[shape.mlp],
            "layer_norm_epsilon": shape.norm_eps,
            "tie_word_embeddings": options["tied_embeddings"],
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), options["dropout"]),
        }

    @classmethod
    def pieces(cls, name: str, shape: Shape) -> Piece:
        number = {"q_proj": 0, "k_proj": 1, "v_proj": 2}.get(name.rpartition(".")[0].rpartition(".")[2])
        weight = name.endswith("proj.weight")
        if number is not None:
            other = f"transformer.h.{name.split('.')[2]}.attn.c_attn.{name.rpartition('.')[2]}"
            start = number * shape.width
            return Piece(other, start, start + shape.width, int(weight), weight)
        for own, other in NAMES.items():
            name = name.replace(own, other)
        return Piece(name, transposed=weight, dim=int(weight))
