"""How a transformer goes on token by token: through its own modules with a cache, whatever wraps them.

Where the modules are plain, fused_decoding.py does the same with less bookkeeping.
W slots in use, T tokens of a prompt, S cached positions, G key-value heads, V vocabulary, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ostinato.models.attention import AttentionPlan, plan_attention
from ostinato.models.kv_cache import KeyValueCache

if TYPE_CHECKING:
    from ostinato.models.transformer import Transformer


def decoding(model: Transformer, slots: int, length: int) -> CachedDecoding | None:
    """What continues up to `slots` sequences of up to `length` tokens; None where keys cannot be kept.

    They cannot where rotary angles depend on the length of the text (`rope_scaling` dynamic and longrope beyond the
    original one).
    """
    from ostinato.models.fused_decoding import FusedDecoding, is_plain

    rope = None if model.rope is None else model.rope.options
    if rope is not None and rope.by_length and length > rope.original_length:
        return None
    return FusedDecoding(model, slots, length) if is_plain(model) else CachedDecoding(model, slots, length)


def miniature(model: Transformer) -> Callable[[int | None], Transformer] | None:
    """What makes a random model of the same shapes, its size of vocabulary aside, with one layer of each kind.

    What bits depend on can be tried out on it. None where the model's own modules do the work: what wraps them, a copy
    would not have.
    """
    from ostinato.models.fused_decoding import is_plain

    weight, kinds = model.model.embed_tokens.weight, model.kinds
    changes: dict[str, Any] = {
        "layers": len(kinds),
        "window_layers": [n for n, windowed in enumerate(kinds) if windowed],
    }
    if model.rope is not None and model.rope.options.by_length:
        changes["rope_scaling"] = "none"  # angles are values, so no matter; and then it decodes at any length

    def make(vocabulary: int | None) -> Transformer:
        inputs = replace(model.inputs, vocab_size=vocabulary or model.inputs.vocab_size)
        draw = torch.Generator().manual_seed(0)
        with torch.device("meta"):
            small = type(model)(inputs, **{**model.options, **changes})
        small = small.to_empty(device=weight.device).to(weight.dtype).eval()
        for one in small.parameters():
            one.data.copy_(torch.randn(one.shape, generator=draw) * one.shape[-1] ** -0.5)
        return small

    return make if is_plain(model) else None


def compute_dtype(weight: Tensor) -> torch.dtype:
    """What products are computed in here: autocast's type where it is on, else the weights' own."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


class CachedDecoding:
    """Prompts are read; then every step adds one token to each of the first W slots."""

    capturable = False
    """Whether `step` may become a CUDA graph: it waits for nothing and has the same tensors in every call."""

    def __init__(self, model: Transformer, slots: int, length: int, dtype: torch.dtype | None = None) -> None:
        shape, weight = model.shape, model.model.embed_tokens.weight
        self.model, self.device = model, weight.device
        self.cache = KeyValueCache(
            shape.layers,
            slots,
            shape.kv_heads,
            length,
            shape.head_width,
            weight.device,
            dtype or compute_dtype(weight),
        )
        self.place, self.move = self.cache.place, self.cache.move
        self._prompt: list[Tensor] | None = None
        self._positions = torch.arange(length, device=weight.device)

    def read(self, prompts: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Prompts, (T,) each: the last logits (V,) fp32 of each, and its keys and values for `place`."""
        return [self._read_one(prompt) for prompt in prompts]

    def _read_one(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        self._prompt, self._prompt_length = [], len(prompt)
        try:
            return self.model(prompt[None], cache=self, last_only=True)[0, -1], torch.stack(self._prompt)
        finally:
            self._prompt = None

    def step(self, tokens: Tensor, lengths: Tensor, longest: int) -> Tensor:
        """Logits (W, V) fp32 after one more token (W,) in slots that hold `lengths` (W,), below `longest`, so far."""
        self.cache.fit(longest)
        self._lengths, self._longest, self._rows = lengths, longest, self.cache.rows(lengths)
        logits = self.model(tokens[:, None], lengths[:, None], cache=self, last_only=True)
        return logits[:, -1]

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the new (B, T, G, width) and return all that may be attended to, (B, S, G, width)."""
        if self._prompt is not None:
            self._prompt.append(torch.stack((key[0], value[0])).transpose(1, 2))
            return key, value
        self.cache.write(layer, self._rows, torch.stack((key[:, 0], value[:, 0]), dim=2).to(self.cache.all.dtype))
        keys, values = self.cache.read(layer, len(key), self._longest)
        return keys.transpose(1, 2), values.transpose(1, 2)

    def plan(self, window: int | None, softcap: float | None, scale: float | None) -> AttentionPlan:
        """Who attends to whom in this call: what came before, no further back than `window`."""
        if self._prompt is not None:
            shape = (1, self._prompt_length)
            return plan_attention("auto", shape, None, self.device, window=window, softcap=softcap, scale=scale)
        mask = self.seen(self._lengths, self._longest, window)
        return AttentionPlan("mask", softcap=softcap, scale=scale, mask=mask, written_out=self.device.type == "cpu")

    def seen(self, lengths: Tensor, longest: int, window: int | None) -> Tensor:
        """(W, 1, 1, longest): whether the token at position `lengths` (W,) attends to each position."""
        lengths, positions = lengths.view(-1, 1, 1, 1), self._positions[:longest]
        seen = positions <= lengths
        return seen if window is None else seen & (positions > lengths - window)
