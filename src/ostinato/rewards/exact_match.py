"""The response is a gold answer, word for word."""

from __future__ import annotations

import string
import unicodedata

from ostinato.core.registry import REWARDS
from ostinato.core.samples import RewardContext, Sample
from ostinato.rewards.reward import gold_answers


@REWARDS.register("exact_match")
class ExactMatch:
    """1.0 if the response equals a gold answer, else 0.0; None where the row has no gold. Both sides are stripped.

    `answer` is the row's column of the gold; of a list any will do. `ignore_punctuation` also takes white space as one
    space; a minus sign is punctuation.
    """

    shaping = False

    def __init__(
        self,
        context: RewardContext,
        *,
        answer: str = "answer",
        ignore_case: bool = False,
        ignore_punctuation: bool = False,
    ) -> None:
        self.answer, self.ignore_case, self.ignore_punctuation = answer, ignore_case, ignore_punctuation

    def __call__(self, samples: list[Sample]) -> list[float | None]:
        """One score for each sample."""
        return [self._score(sample) for sample in samples]

    def _score(self, sample: Sample) -> float | None:
        golds = {self._plain(str(gold)) for gold in gold_answers(sample, self.answer)}
        return float(self._plain(sample.text) in golds) if golds else None

    def _plain(self, text: str) -> str:
        text = text.casefold() if self.ignore_case else text
        if self.ignore_punctuation:
            text = " ".join("".join(letter for letter in text if not is_punctuation(letter)).split())
        return text.strip()


def is_punctuation(letter: str) -> bool:
    """Whether a character is punctuation to Unicode or to ASCII, which counts $+<=>^`|~ too."""
    return letter in string.punctuation or unicodedata.category(letter).startswith("P")
