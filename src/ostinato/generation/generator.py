"""Text from a model, token by token, with a cache of keys and values: the plain generator.

A sample depends neither on its batch nor on its slot: its random numbers are keyed by (seed, step, prompt, sample), and
every step computes the same number of slots, those that are empty included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ostinato.core import seeding
from ostinato.core.errors import UserError
from ostinato.core.samples import Sample
from ostinato.data.tokenizer import Tokenizer
from ostinato.generation.kv_cache import SlotCache
from ostinato.generation.sampler import SamplingParams, sample

SLOTS = 8
SHORTEST_CACHE = 2048  # tokens, or the model's context; longer ones by powers of two, so that few lengths occur


class Generates(Protocol):
    """What a model must offer to be sampled from, beside its forward pass."""

    max_positions: int

    def mask_plan(self, mask: Tensor, softcap: float | None) -> Any: ...


@dataclass
class GenerationStats:
    """What the last call of `generate` did."""

    prefill_tokens: int = 0
    """Prompt tokens that went through the model: the sum of the prompts' lengths."""
    decode_steps: int = 0
    response_tokens: int = 0
    seconds: float = 0.0


class Generator:
    """`Generator(tokenizer).generate(model, prompts, params)`."""

    def __init__(self, tokenizer: Tokenizer, slots: int = SLOTS) -> None:
        self.tokenizer, self.slots = tokenizer, slots
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
    ) -> list[Sample]:
        """`params.n` samples of each prompt (token ids), by prompt, then by sample. The model's mode is restored.

        `numbers`: for each prompt its part of the random key, its position in the data plan (none: 0, 1, ...). `rows`
        are put on the samples. `progress` is told of each finished sample.
        """
        numbers = range(len(prompts)) if numbers is None else numbers
        rows = [None] * len(prompts) if rows is None else rows
        samples = [
            Sample(self._checked(model, list(prompt), place), number, copy, row=row)
            for place, (prompt, number, row) in enumerate(zip(prompts, numbers, rows, strict=True))
            for copy in range(params.n)
        ]
        mode, begin = model.training, time.perf_counter()
        model.eval()
        try:
            for first in range(0, len(samples), self.slots):
                part = samples[first : first + self.slots]
                Batch(self, model, part, params, step).run()
                if progress is not None:
                    for one in part:
                        progress(one)
        finally:
            model.train(mode)
        tokens = sum(len(one.response_ids) for one in samples)
        self.stats = GenerationStats(sum(map(len, prompts)), tokens, tokens, time.perf_counter() - begin)
        return samples

    def _checked(self, model: Any, prompt: list[int], number: int) -> list[int]:
        if not prompt:
            begin = self.tokenizer.bos_id if self.tokenizer.bos_id is not None else self.tokenizer.eos_id
            if begin is None:
                raise UserError(f"prompt {number} is empty, and the tokenizer has no token that begins a document.")
            prompt = [begin]
        if len(prompt) >= model.max_positions:
            raise UserError(
                f"prompt {number} has {len(prompt)} tokens; the model's context of {model.max_positions} leaves no "
                "room for a response. Shorten it."
            )
        return prompt


class Batch:
    """Some samples in the slots of one cache, until each has stopped."""

    def __init__(
        self, generator: Generator, model: Any, samples: list[Sample], params: SamplingParams, step: int
    ) -> None:
        self.tokenizer, self.model, self.samples, self.params = generator.tokenizer, model, samples, params
        self.device = next(model.parameters()).device
        slots = generator.slots
        keys = [seeding.key(params.seed, "generation", step, s.prompt, s.sample) for s in samples]
        self.keys = torch.tensor(keys + [0] * (slots - len(samples)), device=self.device)
        longest = max(len(one.prompt_ids) for one in samples) + params.max_new_tokens
        bucket = max(SHORTEST_CACHE, 1 << (longest - 1).bit_length())
        self.cache = SlotCache(slots, min(model.max_positions, bucket), model.mask_plan)
        self.lengths = torch.zeros(slots, dtype=torch.int64, device=self.device)  # tokens in the cache
        self.logits = torch.zeros(slots, model.inputs.vocab_size, device=self.device)
        self.seen = torch.zeros_like(self.logits, dtype=torch.bool)
        self.ends = set(self.tokenizer.eos_ids)

    def run(self) -> None:
        """Read the prompts, then one token per slot and step."""
        for slot, one in enumerate(self.samples):
            self._read(slot, one)
        while any(not one.stop_reason for one in self.samples):
            tokens, log_probs = sample(self.logits, self.seen, self.keys, self.lengths, self.params)
            for one, token, log_prob in zip(self.samples, tokens.tolist(), log_probs.tolist(), strict=False):
                if not one.stop_reason:
                    self._add(one, token, log_prob)
            self._step(tokens)

    def _read(self, slot: int, one: Sample) -> None:
        """A prompt alone through the model: its keys and values into the slot, its last logits kept."""
        tokens = torch.tensor([one.prompt_ids], device=self.device)
        self.cache.read(slot, tokens.shape[1])
        self.logits[slot] = self.model(tokens, cache=self.cache, last_only=True)[0, -1]
        self.lengths[slot] = tokens.shape[1]
        self.seen[slot, tokens[0]] = True

    def _step(self, tokens: Tensor) -> None:
        room = self.lengths < self.cache.length
        self.lengths.clamp_(max=self.cache.length - 1)  # stopped and empty slots are computed and ignored
        self.cache.step(self.lengths)
        positions = self.lengths[:, None]
        self.logits = self.model(tokens[:, None], positions, cache=self.cache, last_only=True)[:, -1]
        self.seen.scatter_(1, tokens[:, None], True)
        self.lengths += room.long()

    def _add(self, one: Sample, token: int, log_prob: float) -> None:
        one.response_ids.append(token)
        one.log_probs.append(log_prob)
        if token in self.ends:
            one.stop_reason = "eos"
        elif self.params.stop and any(stop in self.tokenizer.decode(one.response_ids) for stop in self.params.stop):
            one.stop_reason = "stop_string"
        elif len(one.response_ids) >= self.params.max_new_tokens:
            one.stop_reason = "length"
        elif len(one.prompt_ids) + len(one.response_ids) >= self.model.max_positions:
            one.stop_reason = "context"
        if one.stop_reason:
            kept = one.response_ids[:-1] if one.stop_reason == "eos" else one.response_ids
            text = self.tokenizer.decode(kept)
            found = [text.index(stop) for stop in self.params.stop if stop in text]
            one.text = text[: min(found)] if found else text
