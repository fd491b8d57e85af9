"""What the engine asks of a model, and how it goes on with a model that offers nothing.

W slots in use, T tokens of a prompt, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Decoding(Protocol):
    """What `model.decoding(slots, length)` returns: texts in slots, each up to `length` tokens, that grow by a token.

    A model that offers this method is not run over the whole text again for each token. It may return None where it
    cannot. What is kept of a text (keys and values, a recurrent state) is the model's affair. Weights are constant as
    long as a decoding lives, so it may lay them out anew. `capturable`, True where `step` waits for nothing and is the
    same work for the same W and `longest`, lets it become a CUDA graph.

    A model may also offer `miniature()`: None, or what makes a model of the same shapes with one layer and random
    weights, given the size of its vocabulary (None: the same). On that the engine measures how narrow it may compute
    without changing bits (consistency.py; then `config_dict()`, what the model is built from, tells models apart).

    Example:
        def decoding(self, slots: int, length: int) -> Decoding | None:
            return MyDecoding(self, slots, length)
    """

    def read(self, prompts: Sequence[Tensor]) -> Sequence[tuple[Tensor, Any]]:
        """Prompts, (T,) int64 each: for each the logits (V,) fp32 after its last token, and what `place` wants."""

    def place(self, slot: int, prompt: Any) -> None:
        """A prompt that was read, as the beginning of a slot; may be called several times with the same prompt."""

    def move(self, source: int, target: int) -> None:
        """A slot's text into another slot."""

    def step(self, tokens: Tensor, lengths: Tensor, longest: int) -> Tensor:
        """Logits (W, V) fp32 after one more token (W,) of the first W slots, which hold `lengths` (W,) tokens so far.

        The lengths of those that matter are below `longest`, so nothing behind it need be read. Slots that are empty or
        done are among them: they are computed, and ignored.
        """


class Rereading:
    """The whole text again, for a model that only maps tokens (B, T) to logits (B, T, V), or something with `logits`.

    Row by row and at its own length where `exact`, so that no row can depend on another; else all at once.
    """

    def __init__(self, model: nn.Module, slots: int, length: int, device: torch.device, *, exact: bool) -> None:
        self.model, self.exact = model, exact
        self.texts = torch.zeros((slots, length), dtype=torch.int64, device=device)
        self.rows = torch.arange(slots, device=device)

    def read(self, prompts: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        return [(self._logits(prompt[None])[0, -1], prompt) for prompt in prompts]

    def place(self, slot: int, prompt: Tensor) -> None:
        self.texts[slot, : len(prompt)] = prompt

    def move(self, source: int, target: int) -> None:
        self.texts[target] = self.texts[source]

    def step(self, tokens: Tensor, lengths: Tensor, longest: int) -> Tensor:
        rows = self.rows[: len(tokens)]
        self.texts[rows, lengths] = tokens
        if not self.exact:
            return self._logits(self.texts[: len(tokens), :longest])[rows, lengths.clamp(max=longest - 1)]
        ends = (lengths + 1).tolist()
        return torch.stack([self._logits(self.texts[r : r + 1, :end])[0, -1] for r, end in enumerate(ends)])

    def _logits(self, tokens: Tensor) -> Tensor:
        found = self.model(tokens)
        return getattr(found, "logits", found).float()


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are."""
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


def begin(model: nn.Module, slots: int, length: int, *, exact: bool) -> Decoding:
    """The model's own decoding, else the one that reads all again: row by row where the model declined, for then what
    it computes depends on a text's length."""
    offered: Callable[[int, int], Decoding | None] | None = getattr(model, "decoding", None)
    found = None if offered is None else offered(slots, length)
    if found is not None:
        return found
    return Rereading(model, slots, length, device_of(model), exact=exact or offered is not None)
