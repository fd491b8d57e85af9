"""Metrics of an update: one table (micro-batch x metric) over all ranks, added up in float64, divided once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ostinato.core.types import LossOutput, Max, Mean, Metric
from ostinato.distributed.strategy import Strategy


class Sum(NamedTuple):
    """A metric over all micro-batches and ranks, not yet divided; for extremes `total` is the extreme."""

    kind: type
    total: float
    weight: float

    @staticmethod
    def of(kind: type, totals: Iterable[float], counts: Iterable[float]) -> Sum:
        if kind is Mean:
            return Sum(kind, math.fsum(totals), math.fsum(counts))
        return Sum(kind, max(totals) if kind is Max else min(totals), 1.0)

    @property
    def value(self) -> float:
        """A mean of nothing is not a number, never an exception; nor is an extreme of nothing."""
        return self.total / self.weight if self.weight and math.isfinite(self.total) else math.nan


@dataclass
class StepMetrics:
    """What an update did: the loss, sums by name, the loss of each micro-batch in the order of m, and the extras."""

    loss: float
    sums: dict[str, Sum]
    losses: list[float]
    extra: list[float] = field(default_factory=list)
    tokens: int = 0
    skipped: int = 0

    @property
    def metrics(self) -> dict[str, float]:
        return {name: one.value for name, one in self.sums.items()}


def add_up(strategy: Strategy, outputs: Sequence[LossOutput], extra: Sequence[Tensor] = ()) -> StepMetrics:
    """Sum the losses and metrics of this rank's micro-batches, and those of all ranks, in the order of m.

    `extra` are further 0-d tensors to bring to the host in the same transfer; they are not summed.
    This is the one place where a step waits for the device.
    """
    names = list(outputs[0].metrics)
    for output in outputs:
        if list(output.metrics) != names:
            raise ValueError(f"compute_loss returned the metrics {list(output.metrics)}, before that {names}")
    values = [cell for output in outputs for cell in row(output)]
    device = outputs[0].loss.device
    flat = torch.stack([torch.as_tensor(cell, device=device).detach().double() for cell in (*values, *extra)]).cpu()
    own = flat[: len(values)].reshape(len(outputs), -1)  # (local micro-batches, columns)
    table = strategy.gather(own).transpose(0, 1).reshape(-1, own.shape[1])  # (M, columns): m = i * W + rank
    columns = table.T.tolist()
    kinds = [type(metric) for metric in outputs[0].metrics.values()]
    sums = {n: Sum.of(kinds[i], columns[1 + 2 * i], columns[2 + 2 * i]) for i, n in enumerate(names)}
    return StepMetrics(math.fsum(columns[0]), sums, columns[0], flat[len(values) :].tolist())


def row(output: LossOutput) -> list[Tensor | float]:
    """loss, then two cells of each metric."""
    return [output.loss, *(cell for metric in output.metrics.values() for cell in cells(metric))]


def cells(metric: Metric) -> tuple[Tensor | float, Tensor | float]:
    """Total and count; of an extreme the value and 1."""
    return (metric.total, metric.count) if isinstance(metric, Mean) else (metric.value, 1.0)


def combined(updates: Sequence[StepMetrics], more: Sequence[StepMetrics] = ()) -> StepMetrics:
    """Several updates as one: means of losses and extras, each metric divided by its count over all and `more`."""
    done = [update for update in updates if update.losses] or list(updates)
    parts: dict[str, list[Sum]] = {}
    for update in [*done, *more]:
        for name, one in update.sums.items():
            parts.setdefault(name, []).append(one)
    sums = {
        name: Sum.of(ones[0].kind, [one.total for one in ones], [one.weight for one in ones])
        for name, ones in parts.items()
    }
    loss = math.fsum(update.loss for update in done) / len(done)
    extra = [math.fsum(column) / len(done) for column in zip(*(update.extra for update in done), strict=True)]
    tokens, skipped = sum(update.tokens for update in updates), sum(update.skipped for update in updates)
    return StepMetrics(loss, sums, [], extra, tokens, skipped)
