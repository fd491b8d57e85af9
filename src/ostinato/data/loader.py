"""Whole steps of micro-batches, assembled ahead by threads, in order. Its only state is the next step.

Micro-batch m is rows [m*b, m*b + b) of the step's layout; rank r of W takes those with m mod W = r. What is yielded
does not depend on the number of threads or on how far ahead they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import xxhash

from ostinato.core.errors import OstinatoError, UserError
from ostinato.core.types import Batch
from ostinato.data.formats import Item, SampleFormat, Samples
from ostinato.data.plan import Plan, Sample

EVALUATION_CHUNK = 16
"""Evaluation lays out this many micro-batches' worth of samples at a time."""


@dataclass(frozen=True)
class StepData:
    """One rank's share of a step."""

    step: int
    micro_batches: list[Batch]
    indices: list[int]
    """The canonical number m of each: the same whatever the number of ranks."""
    count: int
    """How many micro-batches hold samples, over all ranks (M)."""
    data: str
    """xxh3-64 (16 hex digits) of the step's samples and their sources' fingerprints: the same on all ranks."""


class Loader:
    """Micro-batches have `micro_batch_size` rows, or ceil(rows / (W * accumulation)) without it.

    All ranks get the same number; those that run short end with `format.empty()`. `workers` 0 or `prefetch` 0 assembles
    in the calling thread.
    """

    def __init__(
        self,
        plan: Plan,
        samples: Mapping[str, Samples],
        format: SampleFormat,
        *,
        micro_batch_size: int | None = None,
        accumulation: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        prefetch: int = 2,
    ) -> None:
        self.plan, self.samples, self.format = plan, samples, format
        self.micro_batch_size, self.accumulation = micro_batch_size, accumulation or 1
        self.rank, self.world_size = rank, world_size
        self.prefetch = prefetch if workers else 0
        self._threads = ThreadPoolExecutor(workers, "loader") if self.prefetch else None

    def steps(self, first: int) -> Iterator[StepData]:
        """Steps first, first + 1, ... without end. An error surfaces when its step is asked for."""
        if self._threads is None:
            while True:
                yield self.assemble(first)
                first += 1
        ahead: deque[Future[StepData]] = deque()
        try:
            while True:
                while len(ahead) < self.prefetch:
                    ahead.append(self._threads.submit(self.assemble, first + len(ahead)))
                step = ahead.popleft().result()
                first += 1
                yield step
        finally:
            for future in ahead:
                future.cancel()

    def assemble(self, step: int) -> StepData:
        """This rank's share of one step: a pure function."""
        chosen = self.plan.samples(step)
        rows = self.format.layout([self.samples[one.source].length(one.index) for one in chosen])
        size = self.micro_batch_size or -(-len(rows) // (self.world_size * self.accumulation))
        count = -(-len(rows) // size)
        indices = list(range(self.rank, -(-count // self.world_size) * self.world_size, self.world_size))
        batches = [self._micro_batch(step, chosen, rows[m * size : (m + 1) * size]) for m in indices]
        return StepData(step, batches, indices, count, self._hash(chosen))

    def close(self) -> None:
        """Stop the threads; what they are at is finished and dropped."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _micro_batch(self, step: int, chosen: Sequence[Sample], rows: Sequence[Sequence[int]]) -> Batch:
        if not rows:
            return self.format.empty()

        def read(position: int) -> Item:
            one = chosen[position]
            return _read(self.samples[one.source], one.index, f"step {step}")

        return self.format.collate([[self.format.item_at(i, len(chosen), read) for i in row] for row in rows])

    def _hash(self, chosen: Sequence[Sample]) -> str:
        contents = [f"{name}={self.samples[name].fingerprint}" for name in sorted({one.source for one in chosen})]
        lines = [f"{one.source}:{one.epoch}:{one.index}" for one in chosen]
        return xxhash.xxh3_64_hexdigest("\n".join(contents + lines).encode())


def evaluation_batches(
    samples: Samples, format: SampleFormat, rows: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """Every sample once, in order, in micro-batches of `rows` rows; all ranks get the same number, if need be empty."""

    def read(index: int) -> Item:
        return _read(samples, index, "evaluation")

    number = 0
    for batch in _in_order(samples, format, rows):
        if number % world_size == rank:
            yield format.collate([[format.item_at(index, len(samples), read) for index in row] for row in batch])
        number += 1
    if number % world_size and rank >= number % world_size:
        yield format.empty()


def _in_order(samples: Samples, format: SampleFormat, rows: int) -> Iterator[list[list[int]]]:
    """Micro-batches as rows of sample indices."""
    chunk = rows * EVALUATION_CHUNK
    for start in range(0, len(samples), chunk):
        indices = range(start, min(start + chunk, len(samples)))
        layout = format.layout([samples.length(index) for index in indices])
        for first in range(0, len(layout), rows):
            yield [[start + position for position in row] for row in layout[first : first + rows]]


def _read(samples: Samples, index: int, when: str) -> Item:
    try:
        return samples[index]
    except OstinatoError:
        raise
    except Exception as error:
        where = f"{when}: sample {index} of source {samples.label} ({samples.place(index)})"
        raise UserError(f"{where} cannot be read: {type(error).__name__}: {error}") from error
