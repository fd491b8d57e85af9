"""OLMo 2 (arXiv:2501.00656): norms behind attention and feed-forward, and over all heads' query and key at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostinato.core.registry import FAMILIES
from ostinato.models.family import Family, Options


@FAMILIES.register("olmo2")
class Olmo2(Family):
    """Olmo2ForCausalLM."""

    architecture = "Olmo2ForCausalLM"
    head_dim = False
    fixed: Options = {"norm_placement": "after", "qk_norm": True, "qk_norm_over": "heads"}
    bias = "attention_bias"

    @classmethod
    def options(cls, config: Mapping[str, Any]) -> Options:
        return super().options({"rms_norm_eps": 1e-5, **config})
