"""Responses from a model, token by token: what a caller sees of the engine.

A sample depends neither on its batch nor on its slot: its random numbers are keyed by (seed, step, prompt, sample), and
where bits matter every step is computed at a width and a length that give the same ones.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ostinato.core import seeding
from ostinato.core.errors import UserError
from ostinato.core.samples import Sample
from ostinato.data.tokenizer import Tokenizer
from ostinato.generation.decoding import device_of
from ostinato.generation.endings import Endings
from ostinato.generation.room import Room, make_room
from ostinato.generation.sampler import SamplingParams
from ostinato.generation.scheduler import Job, Schedule
from ostinato.generation.slots import Slots

log = logging.getLogger(__name__)
SLOTS = 64  # beyond, a step of a small model on the CPU takes as much longer as it does more


@dataclass
class GenerationStats:
    """What the last call of `generate` did."""

    prefill_tokens: int = 0
    """Prompt tokens that went through the model: the sum of the prompts' lengths."""
    decode_steps: int = 0
    """Steps that each gave a token to every slot in use."""
    response_tokens: int = 0
    seconds: float = 0.0


class Generator:
    """`Generator(tokenizer).generate(model, prompts, params)`.

    `slots` (a power of two) is how many samples are computed together at most. `exact`: ids and log-probs of a sample
    have the same bits whatever else is sampled with it; without it, the same random numbers and logits equal up to
    rounding. What a model must offer is told in `decoding.py`: nothing, or better `decoding(slots, length)`.
    """

    def __init__(self, tokenizer: Tokenizer, slots: int = SLOTS, *, exact: bool = True) -> None:
        if slots < 1 or slots & (slots - 1):
            raise UserError(f"slots: {slots} is no power of two, and bits would depend on a sample's slot.")
        self.tokenizer, self.slots, self.exact = tokenizer, slots, exact
        self.stats = GenerationStats()

    @torch.no_grad()
    def generate(
        self,
        model: nn.Module,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        step: int = 0,
        numbers: Sequence[int] | None = None,
        rows: Sequence[Any] | None = None,
        progress: Callable[[Sample], None] | None = None,
        heard: Callable[[Sample], None] | None = None,
    ) -> list[Sample]:
        """`params.n` samples of each prompt (token ids), by prompt, then by sample, from the model's present weights.

        `numbers`: for each prompt its part of the random key, its position in the data plan (none: 0, 1, ...). `rows`
        are put on the samples. `progress` is told of each finished sample, `heard` of each sample that grew by a token.
        Raises UserError for a prompt that cannot be continued. The modes of the model's modules are restored.
        """
        begin, context = time.perf_counter(), getattr(model, "max_positions", None)
        texts = [self._checked(model, list(prompt), place) for place, prompt in enumerate(prompts)]
        jobs = [
            Job(Sample(list(ids), number, copy, row=row), place, self._key(params, step, number, copy))
            for place, (ids, number, row) in enumerate(
                zip(texts, numbers or range(len(texts)), rows or [None] * len(texts), strict=True)
            )
            for copy in range(params.n)
        ]
        self.stats = GenerationStats()
        if jobs:
            endings = Endings(self.tokenizer, params.stop, params.max_new_tokens, context)
            longest = max(len(ids) + endings.limit(len(ids)) for ids in texts)
            with evaluating(model):
                room = make_room(model, self.slots, len(jobs), longest, exact=self.exact)
                self._run(room, endings, jobs, params, device_of(model), heard, progress)
        self.stats.response_tokens = sum(len(job.sample.response_ids) for job in jobs)
        self.stats.seconds = time.perf_counter() - begin
        return [job.sample for job in jobs]

    def _run(
        self,
        room: Room,
        endings: Endings,
        jobs: Sequence[Job],
        params: SamplingParams,
        device: torch.device,
        heard: Callable[[Sample], None] | None,
        progress: Callable[[Sample], None] | None,
    ) -> None:
        slots = Slots(room.decoding, room.widths[-1], room.reaches[-1], params, device)
        schedule = Schedule(slots, endings, jobs, room, heard, progress)
        schedule.run()
        self.stats.prefill_tokens, self.stats.decode_steps = schedule.prefill_tokens, schedule.decode_steps

    def _key(self, params: SamplingParams, step: int, number: int, copy: int) -> int:
        return seeding.key(params.seed, "generation", step, number, copy)

    def _checked(self, model: Any, prompt: list[int], place: int) -> list[int]:
        if not prompt:
            begin = self.tokenizer.bos_id if self.tokenizer.bos_id is not None else self.tokenizer.eos_id
            if begin is None:
                raise UserError(f"prompt {place} is empty, and the tokenizer has no token that begins a document.")
            prompt = [begin]
        context = getattr(model, "max_positions", None)
        if context is not None and len(prompt) >= context:
            raise UserError(
                f"prompt {place} has {len(prompt)} tokens; the model's context of {context} leaves no room for a "
                "response. Shorten it."
            )
        vocabulary = getattr(getattr(model, "inputs", None), "vocab_size", None)
        if min(prompt) < 0 or (vocabulary is not None and max(prompt) >= vocabulary):
            wrong = next(index for index in prompt if index < 0 or index >= (vocabulary or index + 1))
            raise UserError(f"prompt {place} holds the id {wrong}; the model knows 0 to {(vocabulary or 0) - 1}.")
        return prompt


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, uncompiled; afterwards each of its modules in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.compiler.set_stance("force_eager"):  # a prompt of each length would be compiled anew
            yield
    finally:
        for module in training:
            module.training = True
