"""Sampled responses on their way into training: what is known of each, and how they are laid out in micro-batches.

N trained tokens of a batch; a response of n tokens has (n,) tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ostinato.core.samples import Sample
from ostinato.core.types import Batch
from ostinato.data.batches import TokenBatch
from ostinato.data.conversations import Conversations
from ostinato.data.encoding import TrainedTokens
from ostinato.data.formats import DataOptions
from ostinato.distributed.strategy import Strategy


@dataclass
class Response:
    """A sample and what judges said: `score` the sum of its rewards (None: unscorable), `raw` without shaping parts."""

    sample: Sample
    score: float | None
    raw: float | None
    parts: dict[str, float | None]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """Per token, (n,) each: `behaviour`, `old`, `advantages`, ..."""
    penalty: float = 0.0
    """Taken off the score before it is compared with others."""
    advantage: float | None = None
    data: TrainedTokens | None = None
    """A row of data in a response's place: its tokens; of the sample only the key counts."""

    @property
    def key(self) -> tuple[int, int]:
        """(prompt, sample): the order of responses, whatever rank holds them."""
        return self.sample.prompt, self.sample.sample

    @property
    def length(self) -> int:
        """n, trained tokens."""
        return len(self.sample.response_ids) if self.data is None else int(np.count_nonzero(self.data.trained))

    @property
    def tokens(self) -> TrainedTokens:
        """What is laid into a row."""
        return trained_tokens(self.sample) if self.data is None else self.data


@dataclass(eq=False)
class RolloutBatch(Batch):
    """Responses with their prompts; all but `tokens` are (N,) and without gradient."""

    tokens: TokenBatch
    behaviour: Tensor  # log-probs of the sampler
    advantages: Tensor | None = None
    old: Tensor | None = None  # log-probs when the rollout's updates began; None: one update, they are the live ones
    reference: Tensor | None = None  # log-probs of the frozen reference
    values: Tensor | None = None  # of the critic, when the rollout's updates began
    returns: Tensor | None = None
    correct: Tensor | None = None  # 1 for tokens of responses whose score is that of a correct one, else 0
    correct_tokens: int = 0  # how many

    def counts(self) -> dict[str, int]:
        return {**self.tokens.counts(), "correct_tokens": self.correct_tokens}

    def __len__(self) -> int:
        return len(self.tokens)


class ResponseLayout:
    """Lays responses out as fine-tuning rows are: packed, or padded on the right."""

    def __init__(self, options: DataOptions, strategy: Strategy) -> None:
        self.options, self.strategy, self.device = options, strategy, strategy.device

    def tokens(self, responses: Sequence[Response]) -> tuple[TokenBatch, list[Response]]:
        """One batch, and the responses in the order of its sequences."""
        items = [one.tokens for one in responses]
        lengths = [len(item.ids) for item in items]
        width = max([self.options.sequence_length, *lengths])
        form = Conversations(replace(self.options, sequence_length=width))
        if not responses:
            return form.empty().to(self.device), []
        rows = form.layout(lengths)
        batch = form.collate([[items[place] for place in row] for row in rows])
        return batch.to(self.device), [responses[place] for row in rows for place in row]

    def batch(self, responses: Sequence[Response], names: Sequence[str]) -> RolloutBatch:
        """A micro-batch with these tensors of the responses."""
        tokens, ordered = self.tokens(responses)
        nothing = [torch.zeros(0, device=self.device)]
        flat = {name: torch.cat([one.tensors[name] for one in ordered] or nothing) for name in names}
        correct = int(sum(one.tensors["correct"].sum() for one in ordered)) if "correct" in names else 0
        return RolloutBatch(tokens, **flat, correct_tokens=correct)  # type: ignore[arg-type]

    def chunks(self, responses: Sequence[Response], size: int) -> list[Sequence[Response]]:
        """Pieces of `size`, as many on every rank, at least one: those that run short end with empty ones."""
        cut = list(pieces(responses, size))
        count = int(self.strategy.gather(torch.tensor([len(cut)])).max())
        return [*cut, *[[]] * (max(count, 1) - len(cut))]

    def fill(
        self, responses: Sequence[Response], size: int, score: Callable[[TokenBatch], Mapping[str, Tensor]]
    ) -> None:
        """Give each response the (n,) tensors that `score` makes of batches of `size` responses, (N,) by name."""
        for chunk in self.chunks(responses, size):
            tokens, ordered = self.tokens(chunk)
            for name, flat in score(tokens).items():
                for one, own in zip(ordered, flat.split([one.length for one in ordered]), strict=True):
                    one.tensors[name] = own


def trained_tokens(sample: Sample) -> TrainedTokens:
    """The ids that were read and those that were sampled; the latter are trained."""
    ids = np.array([*sample.prompt_ids, *sample.response_ids], dtype=np.int64)
    return TrainedTokens(ids, np.arange(len(ids)) >= len(sample.prompt_ids))


def pieces(responses: Sequence[Response], size: int) -> Iterator[Sequence[Response]]:
    """Consecutive pieces of `size`, the last may be smaller."""
    return (responses[start : start + size] for start in range(0, len(responses), size))
