"""Continuous batching: a slot that is done takes the next waiting sample at once; a prompt is read once for all."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ostinato.core.errors import OstinatoError
from ostinato.core.samples import Sample
from ostinato.generation.endings import Endings
from ostinato.generation.room import Room
from ostinato.generation.slots import Results, Slots, Start

LAG = 4  # steps that a GPU may be ahead of what is known here; what it drew beyond an end is thrown away


@dataclass(frozen=True)
class Job:
    """A sample that waits. `place`: which prompt of the call it continues; `key`: of its random numbers."""

    sample: Sample
    place: int
    key: int


@dataclass
class Entry:
    """A slot in use: `length` tokens are kept, `left` more may be drawn."""

    sample: Sample
    length: int
    left: int


class Schedule:
    """Runs jobs, those of a prompt one after the other, through the slots."""

    def __init__(
        self,
        slots: Slots,
        endings: Endings,
        jobs: Iterable[Job],
        room: Room,
        heard: Callable[[Sample], None] | None = None,
        finished: Callable[[Sample], None] | None = None,
    ) -> None:
        self.slots, self.endings, self.waiting = slots, endings, deque(jobs)
        self.widths, self.reaches, self.together = room.widths, room.reaches, room.together
        self.entries: list[Entry | None] = [None] * room.widths[-1]
        self.heard, self.finished = heard, finished
        self.pending: deque[tuple[Results, list[tuple[int, Sample]]]] = deque()
        self.prompts: dict[int, tuple[Tensor, Tensor, Any]] = {}  # ids, last logits, state of those that were read
        self.lag = LAG if slots.device.type == "cuda" else 0
        self.prefill_tokens = self.decode_steps = 0

    def run(self) -> None:
        """Until every sample has its stop reason."""
        while self.waiting or self.pending or any(self.entries):
            self._fill()
            if any(self.entries):
                self._step()
            self._collect(self.lag if self.waiting or any(self.entries) else 0)

    def _fill(self) -> None:
        """Waiting samples into free slots, until there are none of the one or the other."""
        while free := [slot for slot, entry in enumerate(self.entries) if entry is None]:
            jobs = [self.waiting.popleft() for _ in free[: len(self.waiting)]]
            if not jobs:
                return
            self._read(jobs)
            starts = [Start(slot, *self.prompts[job.place], job.key) for slot, job in zip(free, jobs, strict=False)]
            self.pending.append((self.slots.place(starts), [(row, job.sample) for row, job in enumerate(jobs)]))
            for start, job in zip(starts, jobs, strict=True):
                entry = Entry(job.sample, start.length, self.endings.limit(start.length) - 1)
                self.entries[start.slot] = entry if entry.left else None
            self._collect(self.lag)

    def _read(self, jobs: Sequence[Job]) -> None:
        """Keep, of the prompts, those that these samples or waiting ones continue; read the new ones."""
        self.prompts = {place: prompt for place, prompt in self.prompts.items() if place >= jobs[0].place}
        new = {job.place: job.sample.prompt_ids for job in jobs if job.place not in self.prompts}
        ids = [torch.tensor(prompt, device=self.slots.device) for prompt in new.values()]
        read = self.slots.decoding.read
        found = read(ids) if self.together and ids else [one for prompt in ids for one in read([prompt])]
        for place, prompt, (logits, state) in zip(new, ids, found, strict=True):
            self.prompts[place] = prompt, logits, state
            self.prefill_tokens += len(prompt)

    def _step(self) -> None:
        if not self.waiting:
            self.prompts = {}
            self._narrow()
        used = [(slot, entry) for slot, entry in enumerate(self.entries) if entry is not None]
        longest = max(entry.length for _, entry in used) + 1
        reach = next(reach for reach in self.reaches if reach >= longest)
        results = self.slots.step(len(self.entries), reach)
        self.decode_steps += 1
        self.pending.append((results, [(slot, entry.sample) for slot, entry in used]))
        for slot, entry in used:
            entry.length, entry.left = entry.length + 1, entry.left - 1
            if not entry.left:
                self.entries[slot] = None

    def _narrow(self) -> None:
        """Fewer slots when no sample waits, and what is in the others moves there."""
        count = sum(entry is not None for entry in self.entries)
        width = next(width for width in self.widths if width >= count)
        free = (slot for slot, entry in enumerate(self.entries[:width]) if entry is None)
        for slot in range(width, len(self.entries)):
            if self.entries[slot] is not None:
                target = next(free)
                self.slots.move(slot, target)
                self.entries[target] = self.entries[slot]
        del self.entries[width:]

    def _collect(self, lag: int) -> None:
        """Take in what was drawn, but for the last `lag` steps unless they are there already."""
        while self.pending and (len(self.pending) > lag or self.pending[0][0].ready):
            results, whose = self.pending.popleft()
            rows = results.rows()
            for row, sample in whose:
                if not sample.stop_reason:
                    self._add(sample, rows[row])

    def _add(self, sample: Sample, row: list[float]) -> None:
        token, log_prob, *top = row
        if math.isnan(log_prob):
            raise OstinatoError(
                f"the model's logits are not numbers after {len(sample.response_ids)} tokens of sample {sample.sample} "
                f"of prompt {sample.prompt}: its weights have diverged."
            )
        if top:
            half = len(top) // 2
            sample.top.append([(int(index), value) for index, value in zip(top[:half], top[half:], strict=True)])
        done = self.endings.add(sample, int(token), log_prob)
        if self.heard is not None:
            self.heard(sample)
        if done:
            self._release(sample)
            if self.finished is not None:
                self.finished(sample)

    def _release(self, sample: Sample) -> None:
        for slot, entry in enumerate(self.entries):
            if entry is not None and entry.sample is sample:
                self.entries[slot] = None
