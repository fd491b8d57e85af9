"""The response has a form."""

from __future__ import annotations

import re

from ostinato.core.registry import REWARDS
from ostinato.core.samples import RewardContext, Sample


@REWARDS.register("format")
class Format:
    """1.0 if the regular expression `pattern` matches the whole stripped response, else 0.0; a dot matches newlines.

    The default is the form of DeepSeek-R1 (arXiv:2501.12948).
    """

    shaping = False

    def __init__(self, context: RewardContext, *, pattern: str = r"<think>.*?</think>\s*<answer>.*?</answer>") -> None:
        try:
            self.pattern = re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise ValueError(f"pattern: {pattern!r} is no regular expression: {error}.") from None

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        """One score for each sample."""
        return [float(self.pattern.fullmatch(sample.text.strip()) is not None) for sample in samples]
