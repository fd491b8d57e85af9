"""Keys and values of what was read so far, one slot per sequence, of fixed length.

B slots, T new tokens, S cached positions, G key-value heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class SlotCache:
    """`read(slot)` before a prompt goes through the model alone, `step(lengths)` before one token of every slot does.

    `make_plan(mask)` makes the model's attention plan from a boolean mask (B, 1, T, S), True may attend.
    """

    def __init__(self, slots: int, length: int, make_plan: Callable[..., Any]) -> None:
        self.slots, self.length, self.make_plan = slots, length, make_plan
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.slot: int | None = None
        self.lengths: Tensor | None = None

    def read(self, slot: int, tokens: int) -> None:
        """The next call reads a whole prompt of so many tokens into a slot."""
        self.slot, self.tokens = slot, tokens

    def step(self, lengths: Tensor) -> None:
        """The next call adds one token to each slot, which holds `lengths` (B,) so far."""
        self.slot, self.lengths = None, lengths

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new (B, T, G, width) and return all that may be attended to, (B, S, G, width)."""
        if layer == len(self.keys):
            shape = (self.slots, self.length, *key.shape[2:])
            self.keys.append(key.new_zeros(shape))
            self.values.append(value.new_zeros(shape))
        if self.slot is not None:
            self.keys[layer][self.slot, : self.tokens] = key[0]
            self.values[layer][self.slot, : self.tokens] = value[0]
            return key, value
        rows = torch.arange(self.slots, device=key.device)
        self.keys[layer][rows, self.lengths] = key[:, 0]
        self.values[layer][rows, self.lengths] = value[:, 0]
        return self.keys[layer], self.values[layer]

    def plan(self, window: int | None, softcap: float | None) -> Any:
        """Who attends to whom in this call: what came before, no further back than `window`."""
        if self.slot is not None:
            query = torch.arange(self.tokens)[:, None]
            cached = torch.arange(self.tokens)[None, :]
        else:
            assert self.lengths is not None
            query = self.lengths[:, None, None, None]  # (B, 1, 1, 1)
            cached = torch.arange(self.length, device=self.lengths.device)
        mask = cached <= query
        if window is not None:
            mask &= cached > query - window
        return self.make_plan(mask, softcap)
