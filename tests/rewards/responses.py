"""Responses to be judged."""

from pathlib import Path
from typing import Any

from ostinato.core.samples import RewardContext, Sample

CONTEXT = RewardContext(max_new_tokens=100)
DATA = Path(__file__).parents[3] / "shared" / "data"


def response(text: str, row: dict[str, Any] | None = None, *, tokens: int = 1, prompt: int = 0) -> Sample:
    """A response of `tokens` tokens."""
    return Sample([1], prompt, 0, response_ids=[2] * tokens, text=text, row=row)


def answers(text: str, *golds: Any) -> list[Sample]:
    """The same response beside each of these golds."""
    return [response(text, {"answer": gold}) for gold in golds]
