"""Small models to sample from."""

from typing import Any

import torch

from ostinato.core.config import Component
from ostinato.core.inputs import ModelInputs
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.tokenizer_kinds import byte
from ostinato.training.initialise import build_model

SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"kv_heads": 2},
    "gpt2": {
        **{"positions": "learned", "norm": "layer", "mlp": "gelu", "qkv_bias": True, "output_bias": True},
        **{"mlp_bias": True, "norm_bias": True},
    },
    "window": {"window": 5, "qk_norm": True, "tied_embeddings": True, "norm_bias": True},
    "capped": {"attention_softcap": 5.0, "logit_softcap": 3.0, "logit_scale": 0.5, "mlp": "geglu_tanh"},
    "stretched": {"rope_scaling": "yarn", "rope_factor": 2.0, "rope_original_length": 32, "dropout": 0.2},
}
PROMPTS = ["hello", "a", "the quick brown fox jumps", "zz top"]


def tokenizer() -> Tokenizer:
    return byte()


def model(shape: str = "llama", length: int = 64, **options: Any) -> Any:
    """A transformer of width 32 whose distributions are far from flat."""
    torch.set_num_threads(1)
    node = Component("transformer", {"width": 32, "layers": 2, "heads": 4, "init_std": 0.3, **SHAPES[shape], **options})
    return build_model(node, ModelInputs(byte().vocab_size, length), 0, torch.device("cpu")).eval()


def ids(prompts: list[str]) -> list[list[int]]:
    return [byte().encode(prompt) for prompt in prompts]
