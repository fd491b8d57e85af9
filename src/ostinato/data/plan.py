"""Which samples each step trains on: a pure function of (config, seed, step). Nothing else decides it.

position  p = (step - 1) * batch_size + i        i = 0..batch_size-1; plus the skipped ranges
block     k, j = divmod(p, L)                    L = mixture_block
source    slot j of block k                      each source as often as its share, in an order of the block's own
turn      n = how many samples of this source came before
epoch     e, r = divmod(n, N_source)
index     permute(r, N_source, key(seed, "order", source, e)), or r itself when shuffle is off; of a source
          in `blocks`, an order in which neighbours stay near (block_order.py)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ostinato.core.errors import UserError
from ostinato.core.manifest import hash_of
from ostinato.core.seeding import key
from ostinato.data.block_order import BlockOrder, Blocks
from ostinato.data.mixture import Stage, staged
from ostinato.data.permutation import permute

VERSION = 1
CHUNK = 1024
"""Positions worked out together, at least: what a step costs is its share of that."""


class Sample(NamedTuple):
    """One sample: which source, which pass over it (from 0), which index in it."""

    source: str
    epoch: int
    index: int  # type: ignore[assignment]  # tuples have a method of this name, which nobody needs here


class Plan:
    """Lengths and weights by source name; weights are shares of samples. Steps count from 1.

    `stages`: [{from_step, weights}] change the weights; `skips`: (from_step, steps) make it read on as if `steps` steps
    had passed by `from_step`. Keeps no state, only a few worked-out blocks; safe to read from several threads.
    """

    def __init__(
        self,
        lengths: Mapping[str, int],
        *,
        batch_size: int,
        seed: int,
        weights: Mapping[str, float] | None = None,
        shuffle: bool = True,
        mixture_block: int = 1024,
        stages: Sequence[Mapping[str, Any]] = (),
        skips: Sequence[tuple[int, int]] = (),
        blocks: Mapping[str, Blocks] | None = None,
    ) -> None:
        self.lengths, self.weights = dict(lengths), dict(weights or dict.fromkeys(lengths, 1.0))
        self.batch_size, self.seed, self.shuffle, self.block = batch_size, seed, shuffle, mixture_block
        self.blocks = dict(blocks or {})
        self.changes, self.skips = tuple(stages), tuple((int(step), int(count)) for step, count in skips)
        self.names = sorted(self.lengths)
        self.stages = staged(self.weights, self.changes, self.block, self.position)
        for name in self.names:
            if self.lengths[name] < 1 and any(stage.counts[name] for stage in self.stages):
                raise UserError(f"source {name} holds no sample. Give it data, or the weight 0.")
        self._near = {name: BlockOrder(own, seed, name) for name, own in self.blocks.items()}
        self._blocks = max(1, CHUNK // self.block)
        self._chunk = lru_cache(maxsize=8)(self._work_out)

    def position(self, step: int) -> int:
        """The first position that `step` reads."""
        skipped = sum(count for first, count in self.skips if first <= step)
        return (step - 1 + skipped) * self.batch_size

    def samples(self, step: int) -> list[Sample]:
        """The step's samples, in canonical order."""
        return self.range(self.position(step), self.batch_size)

    def range(self, position: int, count: int) -> list[Sample]:
        """The samples of positions [position, position + count)."""
        size, found = self._blocks * self.block, []
        while count > 0:
            chunk, start = divmod(position, size)
            sources, epochs, indices = (part[start : start + count].tolist() for part in self._chunk(chunk))
            found += [Sample(self.names[s], e, i) for s, e, i in zip(sources, epochs, indices, strict=True)]
            position, count = position + len(sources), count - len(sources)
        return found

    def skipping(self, skips: Sequence[tuple[int, int]]) -> Plan:
        """The same plan with other skips."""
        return Plan(
            self.lengths,
            batch_size=self.batch_size,
            seed=self.seed,
            weights=self.weights,
            shuffle=self.shuffle,
            mixture_block=self.block,
            stages=self.changes,
            skips=skips,
            blocks=self.blocks,
        )

    def effective_weights(self) -> list[dict[str, float]]:
        """The share each source really has, stage by stage."""
        return [{name: stage.counts[name] / self.block for name in self.names} for stage in self.stages]

    def identity(self, contents: Mapping[str, str], **options: Any) -> dict[str, Any]:
        """All that decides what is trained on, as plain values; `contents` are the sources' fingerprints.

        A source that is never drawn is not part of it.
        """
        drawn = [name for name in self.names if any(stage.counts[name] for stage in self.stages)]
        sources: dict[str, dict[str, Any]] = {
            name: {"length": self.lengths[name], "content": contents[name]} for name in drawn
        }
        for name in set(drawn) & set(self.blocks):
            sources[name]["shuffled_together"] = self.blocks[name].together
        return {
            "version": VERSION,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "block": self.block,
            "stages": [
                {"first_block": s.first_block, "counts": {name: s.counts[name] for name in drawn}} for s in self.stages
            ],
            "skips": [list(skip) for skip in self.skips],
            "sources": sources,
            **options,
        }

    def fingerprint(self, contents: Mapping[str, str], **options: Any) -> str:
        """xxh3-128 of `identity`."""
        return hash_of(self.identity(contents, **options))

    def _work_out(self, chunk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Source numbers, epochs and indices of a chunk of whole blocks."""
        blocks = range(chunk * self._blocks, (chunk + 1) * self._blocks)
        parts = [self._slots(block) for block in blocks]
        sources, turns = (np.concatenate(column) for column in zip(*parts, strict=True))
        epochs, indices = np.empty_like(turns), np.empty_like(turns)
        for number in np.unique(sources):
            mine = sources == number
            epochs[mine], indices[mine] = self._order(self.names[number], turns[mine])
        return sources, epochs, indices

    def _slots(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """For each slot of a block its source's number and that source's turn."""
        stage = self._stage(block)
        counts = np.array([stage.counts[name] for name in self.names])
        listed = np.repeat(np.arange(len(counts)), counts)
        if np.count_nonzero(counts) > 1:
            listed = listed[permute(np.arange(self.block), self.block, key(self.seed, "mixture", block))]
        turns = np.empty(self.block, dtype=np.int64)
        for number in np.flatnonzero(counts):
            name = self.names[number]
            first = stage.turns[name] + (block - stage.first_block) * stage.counts[name]
            turns[listed == number] = np.arange(first, first + counts[number])
        return listed, turns

    def _order(self, name: str, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and indices of a source's turns."""
        epochs, indices = np.divmod(turns, self.lengths[name])
        if self.shuffle:
            for epoch in np.unique(epochs):
                mine = epochs == epoch
                if name in self._near:
                    indices[mine] = self._near[name].indices(int(epoch), indices[mine])
                    continue
                order = key(self.seed, "order", name, int(epoch))
                indices[mine] = permute(indices[mine], self.lengths[name], order)
        return epochs, indices

    def _stage(self, block: int) -> Stage:
        return self.stages[bisect_right([stage.first_block for stage in self.stages], block) - 1]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two identities, a line each: `source wiki: 81,234 rows when the run began, 81,240 now`."""
    lines = []
    old, new = before.get("sources", {}), now.get("sources", {})
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if a is None or b is None:
            lines.append(f"source {name}: {'not there when the run began' if a is None else 'gone now'}")
        elif a["length"] != b["length"]:
            lines.append(f"source {name}: {a['length']:,} rows when the run began, {b['length']:,} now")
        elif a != b:
            lines.append(f"source {name}: other content than when the run began ({a['content']}, now {b['content']})")
    for name in sorted({*before, *now} - {"sources"}):
        if before.get(name) != now.get(name):
            lines.append(f"{name}: {before.get(name)} when the run began, {now.get(name)} now")
    return lines
