"""Mistral (arXiv:2310.06825): Llama with a window in every layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostinato.core.registry import FAMILIES
from ostinato.models.blocks import Shape
from ostinato.models.family import Family, Options, read_windows


@FAMILIES.register("mistral")
class Mistral(Family):
    """MistralForCausalLM."""

    architecture = "MistralForCausalLM"

    @classmethod
    def options(cls, config: Mapping[str, Any]) -> Options:
        return super().options(config) | read_windows(config)

    @classmethod
    def config(cls, options: Mapping[str, Any], shape: Shape, vocab_size: int, max_positions: int) -> Options | None:
        found = super().config(options, shape, vocab_size, max_positions)
        return None if found is None else found | {"sliding_window": options["window"]}
