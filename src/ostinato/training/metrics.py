"""Metrics of a step: one table (micro-batch x metric) over all ranks, added up in float64, divided once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ostinato.core.types import LossOutput
from ostinato.distributed.strategy import Strategy


def add_up(strategy: Strategy, outputs: Sequence[LossOutput], extra: Sequence[Tensor] = ()) -> StepMetrics:
    """Sum the losses and metrics of this rank's micro-batches, and those of all ranks, in the order of m.

    `extra` are further 0-d tensors to bring to the host in the same transfer; they are not summed.
    This is the one place where a step waits for the device.
    """
    names = list(outputs[0].metrics)
    for output in outputs:
        if list(output.metrics) != names:
            raise ValueError(f"compute_loss returned the metrics {list(output.metrics)}, before that {names}")
    cells = [cell for output in outputs for cell in row(output)]
    device = outputs[0].loss.device
    flat = torch.stack([torch.as_tensor(cell, device=device).detach().double() for cell in (*cells, *extra)]).cpu()
    own = flat[: len(cells)].reshape(len(outputs), -1)  # (local micro-batches, columns)
    table = strategy.gather(own).transpose(0, 1).reshape(-1, own.shape[1])  # (M, columns): m = i * W + rank
    sums = [math.fsum(column) for column in zip(*table.tolist(), strict=True)]
    metrics = {n: divide(sums[1 + 2 * i], sums[2 + 2 * i]) for i, n in enumerate(names)}
    return StepMetrics(sums[0], metrics, table[:, 0].tolist(), flat[len(cells) :].tolist())


def row(output: LossOutput) -> list[Tensor | float]:
    """loss, then total and count of each metric."""
    return [output.loss, *(cell for mean in output.metrics.values() for cell in (mean.total, mean.count))]


def divide(total: float, count: float) -> float:
    """A mean of nothing is not a number, never an exception."""
    return total / count if count else math.nan


class StepMetrics:
    """Plain numbers: the step's loss, its metrics, the loss of each micro-batch in the order of m, and the extras."""

    def __init__(self, loss: float, metrics: dict[str, float], losses: list[float], extra: list[float]) -> None:
        self.loss = loss
        self.metrics = metrics
        self.losses = losses
        self.extra = extra
