"""Keys and values of what was read so far: a slot for each sequence, laid out so that attention reads them as they lie.

L layers, W slots in use, G key-value heads, S positions, T tokens of a prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor


class KeyValueCache:
    """Room for `slots` sequences of up to `length` tokens. Zeros at first: what is masked out must be finite."""

    def __init__(
        self, layers: int, slots: int, groups: int, length: int, width: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.slots, self.length = slots, length
        self.all = torch.zeros((layers, 2, slots, groups, length, width), dtype=dtype, device=device)
        self._flat = [layer.view(-1, width) for layer in self.all]
        rows = torch.arange(2 * slots * groups, device=device) * length
        self._first = rows.view(2, slots, groups).permute(1, 2, 0)  # (slots, G, 2): where each one's position 0 lies

    def place(self, slot: int, prompt: Tensor) -> None:
        """Keys and values of a prompt, (L, 2, G, T, width), as the beginning of a slot."""
        self.all[:, :, slot, :, : prompt.shape[3]] = prompt

    def move(self, source: int, target: int) -> None:
        """A slot's content into another slot."""
        self.all[:, :, target] = self.all[:, :, source]

    def rows(self, lengths: Tensor) -> Tensor:
        """Where `write` puts the next token of the first W slots, which hold `lengths` (W,) tokens: (W, G, 2)."""
        return self._first[: len(lengths)] + lengths[:, None, None]

    def write(self, layer: int, rows: Tensor, keys_and_values: Tensor) -> None:
        """One token's keys and values for each of the first W slots, (W, G, 2, width) or as `rows` are shaped."""
        self._flat[layer].index_put_((rows,), keys_and_values)

    def read(self, layer: int, slots: int, length: int) -> tuple[Tensor, Tensor]:
        """The first positions of the first slots: keys and values (W, G, length, width), views."""
        keys, values = self.all[layer, :, :slots, :, :length]
        return keys, values
