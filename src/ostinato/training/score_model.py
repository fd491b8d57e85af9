"""Reward and value models as transformers' sequence classification: one label, its number that of the last token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ostinato.data.tokenizer import Tokenizer
from ostinato.training.tokenizer_export import special_tokens

KNOWN = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "gpt2", "olmo2")
OTHERWISE = {"gemma3_text": "Gemma3Text"}  # where the class is not called as that of the language model
STATISTICS = ("reward_mean", "reward_std")


def score_config(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """config.json of the same model with a scalar head, from that of the language model; None where there is none."""
    kind = config["model_type"]
    stem = re.sub("(ForCausalLM|LMHeadModel)$", "", config["architectures"][0])
    usual = OTHERWISE.get(kind, stem) + "ForSequenceClassification"
    name = usual if kind in KNOWN else named_by_transformers(kind)
    if name is None:
        return None
    labels = {"id2label": {"0": "score"}, "label2id": {"score": 0}, "problem_type": "regression"}
    return {**config, "architectures": [name], **labels}


def scores_texts(config: Mapping[str, Any], language_model: str) -> bool:
    """Whether it is the class of the same model that gives one number for a text."""
    scores = score_config({"model_type": config["model_type"], "architectures": [language_model]})
    one = len(config.get("id2label") or {0: 0}) == 1
    return one and scores is not None and config.get("architectures") == scores["architectures"]


def named_by_transformers(kind: str) -> str | None:
    """Its class for sequence classification by its own list; None without the library or the class."""
    try:
        from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as NAMES
    except ImportError:
        return None
    return NAMES.get(kind)


def statistics(weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean and deviation of a reward model's held-out rewards, for config.json: its class has no tensors for them."""
    return {name: float(weights[name]) for name in STATISTICS if name in weights}


def stored_statistics(config: Mapping[str, Any]) -> dict[str, float]:
    """The same, from a config.json that has them."""
    return {name: config[name] for name in STATISTICS if isinstance(config.get(name), float)}


def with_padding_token(tokenizer: Tokenizer) -> tuple[Tokenizer, str | None]:
    """The tokenizer with a padding token that ends no text, and what is to be said of it.

    transformers takes the score at the last token that is not padding: were it a token that ends a text, the score of
    the token before it would be taken.
    """
    own, bos = tokenizer.special_tokens["pad_token"], tokenizer.special_tokens["bos_token"]
    for token in (own, bos, *special_tokens(tokenizer)):
        if token is not None and tokenizer.token_id(token) not in tokenizer.eos_ids:
            note = None if token == own else f"the padding token is {token}, since {own} may be the last of a text"
            return (tokenizer if token == own else tokenizer.extended([], pad=token)), note
    return tokenizer.extended([], pad=None), "no special token is free for padding: score texts one at a time"
