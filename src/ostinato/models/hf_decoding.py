"""A model of transformers token by token: its keys and values in our slots, under masks and positions of ours.

W slots in use, T tokens of a prompt, S cached positions, G key-value heads, V vocabulary, L layers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from ostinato.models.hf_examination import same, trying
from ostinato.models.kv_cache import KeyValueCache

if TYPE_CHECKING:
    from ostinato.models.hf import HF

log = logging.getLogger(__name__)
FULL, SLIDING = "full_attention", "sliding_attention"
LONGEST = 48  # tokens of the text on which decoding is tried
HIDDEN_LIMITS = ("window_size", "attention_window", "attention_chunk_size", "index_topk", "attention_types")
"""Fields of configs by which attention reaches less far in ways that our masks do not know."""


def decoding(model: HF, slots: int, length: int) -> HFDecoding | None:
    """None where the model keeps more than keys and values, or makes masks and positions of its own.

    Tried on a short text, once: every step's logits must be those of the whole text.
    """
    if not hasattr(model, "keeps"):
        model.keeps = _tried(model) if may_be_masked(model) else None
        if model.keeps is None:
            name = type(model.causal).__name__
            log.warning("%s cannot go on from its keys and values here: each token is read anew, which is slow", name)
    return None if model.keeps is None else HFDecoding(model, slots, length, model.keeps)


def may_be_masked(model: HF) -> bool:
    """Whether who attends to whom is all in the mask that is handed in, and angles in the positions."""
    text = model.causal.config.get_text_config()
    if not model.packs or model.attention.startswith("flash"):
        return False
    if not set(getattr(text, "layer_types", None) or ()) <= {FULL, SLIDING}:
        return False
    if any(getattr(text, name, None) is not None for name in HIDDEN_LIMITS):
        return False
    rope = getattr(text, "rope_parameters", None) or {}
    kinds = [one.get("rope_type") for one in (rope, *(o for o in rope.values() if isinstance(o, dict)))]
    return not {"dynamic", "longrope"} & set(kinds)  # where angles depend on the length of the text


def _tried(model: HF) -> tuple[int, int, int] | None:
    """L, G and width of the keys, if the steps give the logits of the whole text."""
    length = min(LONGEST, model.max_positions)
    tokens = (torch.arange(length, device=model.device) * 3 + 1) % model.vocab_size
    starts = (length // 2, length - 3)  # two slots of unequal lengths
    try:
        with trying(model):
            wanted = model(tokens[None])[0]
            probe = HFDecoding(model, 2, length, (1, 1, 1))
            read = [probe.read([tokens[:start]])[0] for start in starts]
            layers, _, groups, _, width = read[0][1].shape
            probe = HFDecoding(model, 2, length, (layers, groups, width))
            for slot, (_, kept) in enumerate(read):
                probe.place(slot, kept)
            found = [torch.stack([logits for logits, _ in read])]
            for more in range(2):
                lengths = torch.tensor(starts, device=model.device) + more
                found.append(probe.step(tokens[lengths], lengths, length))
            right = all(
                same(logits, wanted[torch.tensor(starts, device=model.device) - 1 + more], loose=True)
                for more, logits in enumerate(found)
            )
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        log.info("%s: %s", type(model.causal).__name__, error)
        return None
    return (layers, groups, width) if right else None


class HFDecoding:
    """Prompts are read; then every step adds one token to each of the first W slots."""

    capturable = False

    def __init__(self, model: HF, slots: int, length: int, shape: tuple[int, int, int]) -> None:
        layers, groups, width = shape
        kind = model.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        self.model, self.dtype = model, dtype
        self.cache = KeyValueCache(layers, slots, groups, length, width, model.device, dtype)
        self.place, self.move = self.cache.place, self.cache.move
        self.kept = Kept(self._update)
        self._positions = torch.arange(length, device=model.device)
        self._prompt: list[Tensor] | None = None
        text = model.causal.config.get_text_config()
        self.window = getattr(text, "sliding_window", None)
        self.kinds = set(getattr(text, "layer_types", None) or (SLIDING if self.window else FULL,))

    def read(self, prompts: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Prompts, (T,) each: the last logits (V,) fp32 of each, and its keys and values for `place`."""
        return [self._read_one(prompt) for prompt in prompts]

    def _read_one(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        self._prompt = []
        try:
            logits = self.model(prompt[None], cache=self, last_only=True)[0, -1]  # type: ignore[arg-type, index]
            return logits, torch.stack(self._prompt)
        finally:
            self._prompt = None

    def step(self, tokens: Tensor, lengths: Tensor, longest: int) -> Tensor:
        """Logits (W, V) fp32 after one more token (W,) in slots that hold `lengths` (W,), below `longest`, so far."""
        self.cache.fit(longest)
        self._lengths, self._longest, self._rows = lengths, longest, self.cache.rows(lengths)
        return self.model(tokens[:, None], lengths[:, None], cache=self, last_only=True)[:, -1]  # type: ignore[arg-type, index, return-value]

    def arguments(self, positions: Tensor | None) -> dict[str, Any]:
        """What the model's body is told in this call."""
        kept = {"past_key_values": self.kept, "use_cache": True}
        if self._prompt is not None:
            return kept
        assert positions is not None
        masks = {kind: self._mask(self.window if kind == SLIDING else None) for kind in self.kinds}
        mask: Any = masks if len(masks) > 1 else next(iter(masks.values()))
        return {**kept, "position_ids": positions, "attention_mask": mask}

    def _mask(self, window: int | None) -> Tensor:
        """(W, 1, 1, S): whether each slot's new token attends to each position; for eager attention what is added."""
        lengths, positions = self._lengths.view(-1, 1, 1, 1), self._positions[: self._longest]
        seen = positions <= lengths
        if window is not None:
            seen &= positions > lengths - window
        if self.model.causal.config._attn_implementation != "eager":
            return seen
        return torch.where(seen, 0.0, torch.finfo(self.dtype).min).to(self.dtype)

    def _update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the new keys and values (B, G, T, width) and return all that may be attended to, (B, G, S, width)."""
        if self._prompt is not None:
            if layer != len(self._prompt):
                raise ValueError("layers that share their keys")
            self._prompt.append(torch.stack((key[0], value[0])))
            return key, value
        self.cache.write(layer, self._rows, torch.stack((key[:, :, 0], value[:, :, 0]), dim=2).to(self.dtype))
        return self.cache.read(layer, len(key), self._longest)


class Kept(Cache):  # type: ignore[misc, no-any-unimported]
    """What transformers takes for its own cache; empty, so that a prompt's masks are those of training."""

    def __init__(self, update: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__(layers=[])
        self._keep = update

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        return self._keep(layer_idx, key_states, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return query_length, 0
