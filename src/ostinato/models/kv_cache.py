"""Keys and values of what was read so far: a slot for each sequence, laid out so that attention reads them as they lie.

L layers, W slots in use, G key-value heads, S positions, T tokens of a prompt.
"""

from __future__ import annotations

import torch
from torch import Tensor


class KeyValueCache:
    """Room for `slots` sequences of up to `length` tokens: at once on a GPU, on the CPU it grows to what is read.

    What lies side by side comes from memory half again as fast as what has gaps, and a step over many slots waits for
    memory. What is masked out must be finite, so room begins as zeros.
    """

    def __init__(
        self, layers: int, slots: int, groups: int, length: int, width: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.grows = device.type == "cpu"
        shape = (layers, 2, slots, groups, length, width)
        whole = torch.empty(shape, dtype=dtype, device=device)  # so that it is known before the start if there is room
        self._hold(whole[:, :, :, :, :0].contiguous() if self.grows else whole.zero_())

    @property
    def length(self) -> int:
        """S, the positions there are at present."""
        return self.all.shape[4]

    def fit(self, length: int) -> None:
        """Make room for `length` positions; give back what is far more."""
        if self.grows and (length > self.length or length <= self.length // 2):
            self._resize(length)

    def place(self, slot: int, prompt: Tensor) -> None:
        """Keys and values of a prompt, (L, 2, G, T, width), as the beginning of a slot."""
        length = prompt.shape[3]
        if length > self.length:
            self._resize(length)
        self.all[:, :, slot, :, :length] = prompt

    def move(self, source: int, target: int) -> None:
        """A slot's content into another slot."""
        self.all[:, :, target] = self.all[:, :, source]

    def rows(self, lengths: Tensor) -> Tensor:
        """Where `write` puts the next token of the first W slots, which hold `lengths` (W,) tokens: (W, G, 2).

        What is longer than there is room for is a slot that is done.
        """
        return self._first[: len(lengths)] + lengths.clamp(max=self.length - 1)[:, None, None]

    def write(self, layer: int, rows: Tensor, keys_and_values: Tensor) -> None:
        """One token's keys and values for each of the first W slots, (W, G, 2, width) or as `rows` are shaped."""
        self._flat[layer].index_put_((rows,), keys_and_values)

    def read(self, layer: int, slots: int, length: int) -> tuple[Tensor, Tensor]:
        """The first positions of the first slots: keys and values (W, G, length, width), views."""
        keys, values = self.all[layer, :, :slots, :, :length]
        return keys, values

    def _resize(self, length: int) -> None:
        kept = min(self.length, length)
        changed = self.all.new_empty((*self.all.shape[:4], length, self.all.shape[5]))
        changed[:, :, :, :, :kept] = self.all[:, :, :, :, :kept]
        changed[:, :, :, :, kept:] = 0
        self._hold(changed)

    def _hold(self, everything: Tensor) -> None:
        self.all = everything  # (L, 2, slots, G, S, width)
        _, _, slots, groups, length, width = everything.shape
        self._flat = [layer.view(-1, width) for layer in everything]
        rows = torch.arange(2 * slots * groups, device=everything.device) * length
        self._first = rows.view(2, slots, groups).permute(1, 2, 0)  # (slots, G, 2): where each one's position 0 lies
