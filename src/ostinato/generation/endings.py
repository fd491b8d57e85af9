"""When a response is over, and what its text is."""

from __future__ import annotations

from collections.abc import Sequence

from ostinato.core.samples import Sample
from ostinato.data.tokenizer import Tokenizer

SLACK = 8  # tokens looked at beside those that a stop string may be made of


class Endings:
    """Stop reasons in their order: eos, stop_string, length, context."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], max_new_tokens: int, context: int | None) -> None:
        self.tokenizer, self.stop, self.ends = tokenizer, stop, set(tokenizer.eos_ids)
        self.max_new_tokens, self.context = max_new_tokens, context
        self._tail = max((len(text.encode()) for text in stop), default=0) + SLACK

    def limit(self, prompt: int) -> int:
        """The most tokens that a response to a prompt of so many tokens can have."""
        return self.max_new_tokens if self.context is None else min(self.max_new_tokens, self.context - prompt)

    def add(self, sample: Sample, token: int, log_prob: float) -> bool:
        """One more token; whether it was the last. Then the sample has its stop reason and its text."""
        ids = sample.response_ids
        ids.append(token)
        sample.log_probs.append(log_prob)
        if token in self.ends:
            sample.stop_reason = "eos"
        elif self.stop and self._stops(ids):
            sample.stop_reason = "stop_string"
        elif len(ids) >= self.limit(len(sample.prompt_ids)):
            sample.stop_reason = "length" if len(ids) >= self.max_new_tokens else "context"
        if sample.stop_reason:
            sample.text = self.text(ids[:-1] if sample.stop_reason == "eos" else ids)
        return bool(sample.stop_reason)

    def text(self, ids: Sequence[int]) -> str:
        """What ids say, cut before the first stop string."""
        text = self.tokenizer.decode(ids)
        found = [text.index(stop) for stop in self.stop if stop in text]
        return text[: min(found)] if found else text

    def _stops(self, ids: list[int]) -> bool:
        """Whether the newest token completes a stop string: only the end is decoded, the rest held none before."""
        tail = self.tokenizer.decode(ids[-self._tail :])
        return any(stop in tail for stop in self.stop)
