"""From a config.json to a causal language model of transformers: read, checked, nothing of a folder's own code run."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ostinato.core.errors import UserError
from ostinato.core.mistakes import nearest

OURS = ("_attn_implementation", "attn_implementation", "_experts_implementation", "torch_dtype", "dtype", "use_cache")
"""What a file may not decide: kernels (their names may be those of downloads), the weights' type, what is kept."""


def import_transformers() -> Any:
    """The package; UserError where it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise UserError(f"model hf: {error}. Install it: pip install 'ostinato[hf]'.") from error
    transformers.utils.logging.disable_progress_bar()
    return transformers


def read_config(config: Mapping[str, Any], vocab_size: int) -> Any:
    """The config of transformers, its vocabulary at least `vocab_size`. Raises ValueError for what is not supported."""
    transformers = import_transformers()
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise ValueError("config: no model_type. It must be a whole config.json.")
    for key, value in _entries(config):
        if key == "auto_map" and value:
            raise ValueError(
                f"config: auto_map: {kind} comes with code of its own, and none is run. "
                "Use a model that transformers has itself."
            )
        if key == "quantization_config" and value:
            raise ValueError("config: quantization_config: the weights are quantised. Use the unquantised model.")
    if kind not in transformers.CONFIG_MAPPING:
        guess = nearest(kind, list(transformers.CONFIG_MAPPING))
        hint = f" Did you mean {guess}?" if guess else " A newer transformers may have it."
        raise ValueError(f"config: model_type {kind} is not in transformers {transformers.__version__}.{hint}")
    known = _parsed(transformers.CONFIG_MAPPING[kind], config)
    if known.is_encoder_decoder:
        raise ValueError(f"config: {kind} is an encoder with a decoder, no causal language model.")
    if type(known) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(f"config: transformers has no causal language model for model_type {kind}.")
    text = known.get_text_config()
    written = _size(config)
    if vocab_size and (written is None or written < vocab_size):
        text.vocab_size = vocab_size
    return known


def _parsed(kind: Any, config: Mapping[str, Any]) -> Any:
    """Every class of transformers checks its fields in its own way and with its own errors."""
    plain = {key: copy.deepcopy(value) for key, value in config.items() if key not in OURS}
    try:
        return kind.from_dict(plain)
    except Exception as error:  # the errors of strict dataclasses have no base of their own
        raise ValueError(f"config: transformers refuses it: {' '.join(str(error).split())}") from error


def _entries(config: Any) -> Iterator[tuple[str, Any]]:
    """All keys and values, of nested configs too."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield key, value
            yield from _entries(value)


def _size(config: Mapping[str, Any]) -> int | None:
    """The vocabulary that is written in the file."""
    return config.get("vocab_size", (config.get("text_config") or {}).get("vocab_size"))


def build_causal(known: Any, attention: str) -> Any:
    """The model, fp32, on the device in force. Raises ValueError where it cannot attend in this way."""
    transformers = import_transformers()
    kind = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(known)]
    if attention == "sdpa" and not kind._supports_sdpa:
        attention = "eager"
    known = copy.deepcopy(known)
    try:
        causal = transformers.AutoModelForCausalLM.from_config(
            known, dtype=torch.float32, attn_implementation=attention, trust_remote_code=False
        )
    except Exception as error:  # whatever a class meets in the values of a config
        raise ValueError(f"transformers cannot build it: {' '.join(str(error).split())}") from error
    causal.config.use_cache = False
    causal.config.get_text_config().use_cache = False
    return causal


def written_config(config: Mapping[str, Any], causal: Any) -> dict[str, Any]:
    """config.json of the weights as they are: as it was read, with the vocabulary and the type that they have now."""
    plain = {key: copy.deepcopy(value) for key, value in config.items() if key not in ("torch_dtype", "dtype")}
    holder = plain if "vocab_size" in plain or "text_config" not in plain else plain["text_config"]
    holder["vocab_size"] = causal.config.get_text_config().vocab_size
    return {**plain, "architectures": [type(causal).__name__], "dtype": "float32"}


def body(causal: Any) -> Any:
    """The model without its head."""
    if causal.base_model is not causal:
        return causal.base_model
    embedding = causal.get_input_embeddings()
    return next((child for child in causal.children() if embedding in child.modules()), None)


def logit_scale(causal: Any) -> float:
    """What the logits are multiplied by behind the head."""
    config, scale = causal.config.get_text_config(), 1.0
    for name in ("logit_scale", "lm_head_multiplier", "output_multiplier"):
        scale *= _number(config, name)
    scaling = _number(config, "logits_scaling")  # of Granite; HyperCLOVA X multiplies by what has the same name
    return scale * scaling if config.model_type.startswith("hyperclovax") else scale / scaling


def logit_softcap(causal: Any) -> float | None:
    """The bound of the logits, softcap * tanh(z / softcap), where there is one."""
    config = causal.config.get_text_config()
    return getattr(config, "final_logit_softcapping", None) or getattr(config, "logits_soft_cap", None)


def _number(config: Any, name: str) -> float:
    value = getattr(config, name, None)
    return 1.0 if value is None else float(value)
