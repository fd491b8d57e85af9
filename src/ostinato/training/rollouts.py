"""Rollouts: responses to this rank's prompts are sampled from the live policy and scored.

Whatever depends on all responses of a step is worked out from one table that every rank has, in the order of the plan.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ostinato.core.errors import UserError
from ostinato.core.registry import REWARDS
from ostinato.core.samples import RewardContext
from ostinato.data.loader import StepData
from ostinato.data.prompts import Prompt
from ostinato.distributed.strategy import gather_rows
from ostinato.generation.generator import Generator
from ostinato.generation.sampler import SamplingParams
from ostinato.training.responses import Response, ResponseLayout, RolloutBatch
from ostinato.training.reward_table import STOPS, Table, reward_sums
from ostinato.training.weights import load_by_name

if TYPE_CHECKING:
    from ostinato.training.trainer import BaseTrainer


SHOWN = ("reward/mean", "rewards/", "response/tokens_mean", "response/truncated_fraction")  # of an evaluation


class Rollouts:
    """What an algorithm that samples owns: generator, rewards (unless nobody is `judged`), the layout of responses."""

    def __init__(
        self, trainer: BaseTrainer, group_size: int = 1, *, allow_filtered: bool = False, judged: bool = True
    ) -> None:
        config, strategy = trainer.config, trainer.strategy
        if strategy.elastic:  # a rank's responses are shuffled and cut among themselves
            raise UserError(
                f"training.numerics: elastic: how {config.algorithm.name} cuts its responses depends on the number of "
                "ranks. Choose deterministic: the same bits on an equal number of ranks."
            )
        self.trainer, self.strategy = trainer, strategy
        self.params = SamplingParams.of(config.generation, seed=trainer.seed, n=group_size)
        if self.params.temperature == 0:
            raise UserError("generation.temperature: 0 samples the same response again and again. Set it above 0.")
        filters = (self.params.top_k, self.params.top_p, self.params.min_p, self.params.repetition_penalty)
        if not allow_filtered and filters != (None, 1.0, 0.0, 1.0):
            raise UserError(
                "generation: top_k, top_p, min_p and repetition_penalty sample from another distribution than the one "
                "that is trained. Leave them out, or set allow_filtered_rollouts: true."
            )
        self.generator = Generator(trainer.tokenizer, exact=trainer.parts.exact)
        load = load_by_name(config.experiment.output_root, str(strategy.device))
        context = RewardContext(config.generation.max_new_tokens, trainer.seed, str(strategy.device), load)
        self.rewards = REWARDS.get("weighted_sum")(config.rewards, context) if judged else None
        self.layout = ResponseLayout(trainer.parts.data.format.options, strategy)

    def sample(self, prompts: Sequence[Prompt], numbers: Sequence[int], step: int) -> list[Response]:
        """Responses to prompts, scored; `numbers` are the prompts' positions in the data plan."""
        started, perf = time.perf_counter(), self.trainer.perf
        found = self._responses(prompts, numbers, self.params, step)
        seconds = time.perf_counter() - started
        tokens = sum(one.length for one in found)
        before = perf.get("rollout_seconds", 0.0), perf.get("rollout_tokens_per_second", 0.0)
        perf["rollout_seconds"] = before[0] + seconds
        perf["rollout_tokens_per_second"] = (before[0] * before[1] + tokens) / max(before[0] + seconds, 1e-9)
        perf["prefill_tokens"] = perf.get("prefill_tokens", 0.0) + self.generator.stats.prefill_tokens
        return found

    def of_step(self) -> list[Response]:
        """Responses to this rank's prompts of the step of the data plan that was read last."""
        data, trainer = self.trainer.step_data, self.trainer
        assert data is not None
        first = self.first_of(data)
        shares: Any = zip(data.indices, data.micro_batches, strict=True)
        numbered = [(first + m, prompt) for m, batch in shares for prompt in batch.prompts]
        prompts, numbers = [prompt for _, prompt in numbered], [number for number, _ in numbered]
        return self.sample(prompts, numbers, trainer.global_step + 1)

    def first_of(self, data: StepData) -> int:
        """The number in the data plan of a step's first sample."""
        return (data.step - 1) * self.trainer.config.training.batch_size

    def _responses(
        self, prompts: Sequence[Prompt], numbers: Sequence[int], params: SamplingParams, step: int
    ) -> list[Response]:
        ids, rows = [prompt.ids for prompt in prompts], [prompt.row for prompt in prompts]
        with self.strategy.whole_model(self.trainer.model) as model:
            samples = self.generator.generate(
                model, ids, params, step=step, numbers=numbers, rows=rows, progress=lambda _: self.trainer.poll()
            )
        behaviour = [{"behaviour": torch.tensor(one.log_probs, device=self.strategy.device)} for one in samples]
        if self.rewards is None:
            return [Response(one, None, None, {}, own) for one, own in zip(samples, behaviour, strict=True)]
        scores = self.rewards(samples)
        parts = [{label: column[place] for label, column in scores.parts.items()} for place in range(len(samples))]
        return list(map(Response, samples, scores.total, scores.raw, parts, behaviour))

    def table(self, responses: Sequence[Response]) -> Table:
        """The same table on every rank."""
        labels = list(self.trainer.config.rewards)
        rows = [
            [
                *one.key,
                one.score,
                one.raw,
                one.length,
                STOPS.index(one.sample.stop_reason),
                one.penalty,
                *map(one.parts.get, labels),
            ]
            for one in responses
        ]
        numbers = [[math.nan if cell is None else float(cell) for cell in row] for row in rows]  # type: ignore[arg-type]
        own = torch.tensor(numbers, dtype=torch.float64).reshape(-1, 7 + len(labels))
        whole = gather_rows(self.strategy, own).numpy()
        whole = whole[np.lexsort((whole[:, 1], whole[:, 0]))]
        columns = whole.T
        parts = {label: columns[7 + place] for place, label in enumerate(labels)}
        prompt, sample, stop = (columns[place].astype(np.int64) for place in (0, 1, 5))
        return Table(prompt, sample, columns[2], columns[3], columns[4], stop, columns[6], parts)

    def micro_batches(self, responses: Sequence[Response], names: Sequence[str]) -> list[RolloutBatch]:
        """As many on every rank, those that run short filled up with empty ones."""
        return [self.layout.batch(chunk, names) for chunk in self.chunks(responses)]

    def chunks(self, responses: Sequence[Response]) -> list[Sequence[Response]]:
        """The responses of each micro-batch: as many on every rank, those that run short end with empty ones."""
        return self.layout.chunks(responses, self.micro_batch_size(responses))

    def micro_batch_size(self, responses: Sequence[Response]) -> int:
        """Responses at once on a device."""
        training = self.trainer.config.training
        if training.micro_batch_size:
            return training.micro_batch_size
        return max(1, -(-len(responses) // (training.gradient_accumulation or 1)))

    def evaluate(self) -> dict[str, float]:
        """Greedy responses to the held-out prompts: mean score with its standard error, lengths, each reward."""
        held_out, limit = self.trainer.parts.data.validation, self.trainer.config.evaluation.limit
        if held_out is None:
            return {}
        count, rank, world = min(limit or len(held_out), len(held_out)), self.strategy.rank, self.strategy.world_size
        numbers = range(rank, count, world)
        params = replace(self.params, n=1, temperature=0.0)
        with torch.no_grad(), self.trainer.parts.autocast():
            found = self._responses([held_out[number] for number in numbers], numbers, params, 0)
        table = self.table(found)
        scores = table.score[~np.isnan(table.score)]
        error = float(scores.std(ddof=1) / math.sqrt(len(scores))) if len(scores) > 1 else math.nan
        metrics = {"reward/mean": math.nan, "reward/standard_error": error}
        metrics |= {name: one.value for name, one in reward_sums(table).items() if name.startswith(SHOWN)}
        return {f"validation/{name}": value for name, value in metrics.items()}
