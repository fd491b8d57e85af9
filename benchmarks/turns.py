"""Our trainer and a peer's bare loop take turns within one run, chunk by chunk, on the same micro-batches.

So whatever else the machine does hits both alike, and the ratio of two neighbouring chunks means something.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, THREADS, spread
from ostinato.core.config import load_config
from ostinato.core.types import Batch, StepOutput
from ostinato.training.build import build, open_strategy
from ostinato.training.hooks import RecordStep
from ostinato.training.trainer import BaseTrainer

PeerStep = Callable[[Sequence[Batch]], None]  # one optimizer step of the peer on a step's micro-batches
WARMUP_CHUNKS = 2


@dataclass(frozen=True)
class Turns:
    """(wall, processor) seconds per step, chunk by chunk, and the trained tokens per step."""

    ours: list[tuple[float, float]]
    peer: list[tuple[float, float]]
    tokens: float

    def ratios(self, clock: int) -> list[float]:
        """Our time / the peer's, of neighbouring chunks; clock 0 is the wall's, 1 the processor's."""
        return [a[clock] / b[clock] for a, b in zip(self.ours, self.peer, strict=True)]

    def lines(self, peer: str) -> list[str]:
        """What goes into the log."""
        ours, theirs = (statistics.median(wall for wall, _ in side) for side in (self.ours, self.peer))
        return [
            f"- ostinato: {ours * 1000:.1f} ms a step, {self.tokens / ours:,.0f} trained tokens/s",
            f"- {peer}: {theirs * 1000:.1f} ms a step, {self.tokens / theirs:,.0f} trained tokens/s",
            f"- time, ostinato / peer: {spread(self.ratios(0))}",
            f"- processor time of all threads, ostinato / peer: {spread(self.ratios(1))}",
        ]


def take_turns_in_a_run(
    config: str,
    overrides: Sequence[str],
    make_peer: Callable[[BaseTrainer], PeerStep],
    *,
    chunk: int = 10,
    rounds: int = 20,
) -> Turns:
    """Train by `config`; after every `chunk` steps the peer repeats them on the micro-batches just used.

    The peer reads no data: its micro-batches are in memory already. Ours are loaded, and every step is recorded.
    """
    steps = chunk * (rounds + WARMUP_CHUNKS)
    settings = [f"training.total_steps={steps}", f"training.threads={THREADS}", *overrides]
    loaded = load_config(config if config.startswith("ostinato:") else str(ROOT / config), settings)
    strategy = open_strategy(loaded)
    trainer = build(loaded, strategy).trainer
    peer_step = make_peer(trainer)
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "metrics.jsonl").open("w") as rows:
        turns = _Turns(peer_step, chunk)
        trainer.add_hook(RecordStep(lambda *row: print(row, file=rows, flush=True)))
        trainer.add_hook(turns)
        turns.began = now()
        trainer.train()
    strategy.close()
    kept = slice(WARMUP_CHUNKS, None)
    return Turns(turns.ours[kept], turns.peer[kept], turns.tokens / steps)


class _Turns:
    """The hook that lets the peer run."""

    def __init__(self, peer_step: PeerStep, chunk: int) -> None:
        self.peer_step, self.chunk = peer_step, chunk
        self.ours: list[tuple[float, float]] = []
        self.peer: list[tuple[float, float]] = []
        self.tokens = 0
        self.seen: list[list[Any]] = []
        self.began = (0.0, 0.0)

    def __call__(self, trainer: BaseTrainer, output: StepOutput) -> None:
        self.tokens += output.tokens
        assert trainer.step_data is not None
        self.seen.append(trainer.step_data.micro_batches)
        if len(self.seen) < self.chunk:
            return
        middle = now()
        for batches in self.seen:
            self.peer_step(batches)
        end = now()
        self.ours.append(self._per_step(self.began, middle))
        self.peer.append(self._per_step(middle, end))
        self.seen = []
        self.began = now()

    def _per_step(self, start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
        return (end[0] - start[0]) / self.chunk, (end[1] - start[1]) / self.chunk


def now() -> tuple[float, float]:
    """(wall clock, processor time of all threads of this process)."""
    return time.perf_counter(), time.process_time()
