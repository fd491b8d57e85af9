"""The tensors of a generation: what each slot drew last, how long it is, its random numbers, and the step over all.

On a GPU a step is a CUDA graph for each (width, length), and nothing waits for its results.
W slots in use, V vocabulary, S positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ostinato.generation.decoding import Decoding
from ostinato.generation.sampler import Drawn, SamplingParams, sample, uniform

Columns = list[list[float]]
"""For each row: token, log-prob, then the ids and log-probs of the alternatives."""


class Results:
    """What a step drew, on its way to the host: `ready` whether it is there, `rows` waits for it."""

    def __init__(self, drawn: Drawn) -> None:
        parts = [drawn.tokens[:, None], drawn.log_probs[:, None]]
        parts += [] if drawn.top is None else list(drawn.top)
        packed = torch.cat([part.double() for part in parts], 1)
        self.event: Any = None
        if packed.is_cuda:
            self.host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
            self.host.copy_(packed, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()
        else:
            self.host = packed

    @property
    def ready(self) -> bool:
        return self.event is None or self.event.query()

    def rows(self) -> Columns:
        if self.event is not None:
            self.event.synchronize()
        return self.host.tolist()


@dataclass(frozen=True)
class Start:
    """How a slot begins: a prompt's ids (T,), its last logits (V,), what the decoding keeps of it, and the key."""

    slot: int
    ids: Tensor
    logits: Tensor
    state: Any
    key: int

    @property
    def length(self) -> int:
        return len(self.ids)


class Slots:
    """`length` positions for each of `slots` texts."""

    def __init__(
        self, decoding: Decoding, slots: int, length: int, params: SamplingParams, device: torch.device
    ) -> None:
        self.decoding, self.length, self.params, self.device = decoding, length, params, device
        self.tokens = torch.zeros(slots, dtype=torch.int64, device=device)
        self.lengths = torch.zeros(slots, dtype=torch.int64, device=device)
        self.draws = torch.zeros((slots, length), dtype=torch.float64, device=device)
        self.positions = torch.arange(length, device=device)
        self.seen: Tensor | None = None  # (slots, V), where a penalty asks for it
        graphs = device.type == "cuda" and getattr(decoding, "capturable", False)
        self.graphs: dict[tuple[int, int], Any] | None = {} if graphs else None

    def place(self, starts: Sequence[Start]) -> Results:
        """Prompts that were read begin slots, and the first token of each is drawn."""
        slots, lengths, keys = (
            torch.tensor(column, device=self.device)
            for column in zip(*((start.slot, start.length, start.key) for start in starts), strict=True)
        )
        for start in starts:
            self.decoding.place(start.slot, start.state)
        draws = uniform(keys[:, None], self.positions)
        self.lengths[slots], self.draws[slots] = lengths, draws
        logits, seen = torch.stack([start.logits for start in starts]), None
        if self.params.repetition_penalty != 1.0:
            seen = torch.zeros(logits.shape, dtype=torch.bool, device=self.device)
            for row, start in zip(seen, starts, strict=True):
                row[start.ids] = True
        drawn = sample(logits, seen, draws.gather(1, lengths[:, None])[:, 0], self.params)
        self.tokens[slots] = drawn.tokens
        if seen is not None:
            if self.seen is None:
                self.seen = seen.new_zeros((len(self.tokens), logits.shape[1]))
            self.seen[slots] = seen.scatter_(1, drawn.tokens[:, None], True)
        return Results(drawn)

    def move(self, source: int, target: int) -> None:
        """A slot's text and numbers into another slot."""
        self.decoding.move(source, target)
        for tensor in (self.tokens, self.lengths, self.draws, *([] if self.seen is None else [self.seen])):
            tensor[target] = tensor[source]

    def step(self, width: int, longest: int) -> Results:
        """The next token of each of the first `width` slots; attention reaches over `longest` positions."""
        if self.graphs is None:
            return Results(self._step(width, longest))
        if (width, longest) not in self.graphs:  # the first time warms the kernels up
            self.graphs[width, longest] = None
            return Results(self._step(width, longest))
        if self.graphs[width, longest] is None:
            graph = torch.cuda.CUDAGraph()
            pool = next((one[0].pool() for one in self.graphs.values() if one is not None), None)
            with torch.cuda.graph(graph, pool=pool):
                drawn = self._step(width, longest)
            self.graphs[width, longest] = graph, drawn
        graph, drawn = self.graphs[width, longest]
        graph.replay()
        return Results(drawn)

    def _step(self, width: int, longest: int) -> Drawn:
        lengths = self.lengths[:width]
        logits = self.decoding.step(self.tokens[:width], lengths, longest)
        lengths.add_(1).clamp_(max=self.length - 1)  # slots that are done go on, and are ignored
        seen = None if self.seen is None else self.seen[:width]
        draws = self.draws[:width].gather(1, lengths[:, None])[:, 0]
        drawn = sample(logits, seen, draws, self.params)
        self.tokens[:width] = drawn.tokens
        if seen is not None:
            seen.scatter_(1, drawn.tokens[:, None], True)
        return drawn
