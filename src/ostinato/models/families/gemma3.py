"""Gemma 3 with eyes: its text part alone is read, under the names of several years; pictures are left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostinato.core.registry import FAMILIES
from ostinato.models.blocks import Shape
from ostinato.models.families.gemma3_text import Gemma3Text
from ostinato.models.family import Options, required


@FAMILIES.register("gemma3")
class Gemma3(Gemma3Text):
    """Gemma3ForConditionalGeneration, whose text part is a gemma3_text."""

    architecture = "Gemma3ForConditionalGeneration"
    written_as = "gemma3_text"
    spellings = (
        ("model.", "model.language_model."),
        ("model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
    )
    ignored = (*Gemma3Text.ignored, "vision_tower.", "multi_modal_projector.")

    @classmethod
    def options(cls, config: Mapping[str, Any]) -> Options:
        return super().options(required(config, "text_config"))

    @classmethod
    def config(cls, options: Mapping[str, Any], shape: Shape, vocab_size: int, max_positions: int) -> Options | None:
        return None
