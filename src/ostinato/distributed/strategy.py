"""How one step is spread over processes: the protocol every strategy keeps, and what they share.

A strategy sums gradients (losses are already divided by the whole step's totals), so no strategy ever averages.
Collectives that are not training's own (counts, metrics, flags) go over CPU tensors and never touch the device.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ostinato.core.errors import UserError
from ostinato.core.types import Batch, Totals


@runtime_checkable
class Strategy(Protocol):
    """What the trainer asks of a strategy. W is the number of data-parallel ranks."""

    rank: int
    world_size: int
    device: torch.device
    elastic: bool
    sharded: bool
    mixed_precision: str

    @property
    def is_main(self) -> bool: ...
    def setup(self) -> None: ...
    def close(self) -> None: ...
    def place(self, model: nn.Module) -> nn.Module: ...
    def whole_model(self, model: nn.Module) -> AbstractContextManager[nn.Module]: ...
    def wrap_model(self, model: nn.Module) -> nn.Module: ...
    def backward(self, loss: Tensor, *, last: bool) -> None: ...
    def sum(self, tensor: Tensor) -> Tensor: ...
    def gather(self, tensor: Tensor) -> Tensor: ...
    def share(self, value: Any) -> Any: ...
    def clip_grad_norm(self, parameters: Iterable[nn.Parameter], max_norm: float | None) -> Tensor: ...
    def state(self) -> dict[str, Any]: ...


def choose_device(requested: str, local_rank: int = 0) -> torch.device:
    """`auto`: this rank's CUDA device if there is one, else the CPU. Raises UserError if cuda is asked in vain."""
    if requested == "cuda" and not torch.cuda.is_available():
        raise UserError("training.device: cuda is asked for, but torch finds none. Set training.device to cpu or auto.")
    if requested == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def rank_from_environment() -> tuple[int, int, int]:
    """(rank, local rank, world size) as torchrun or Slurm tell them; (0, 0, 1) in a plain process. No torch needed."""
    if "RANK" in os.environ:
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    elif "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        names = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS")
    else:
        return 0, 0, 1
    rank, local_rank, world_size = (
        int(os.environ.get(name, default)) for name, default in zip(names, "001", strict=True)
    )
    return rank, local_rank, world_size


def step_totals(strategy: Strategy, batches: list[Batch]) -> Totals:
    """The units of the whole step: this rank's counts, summed over ranks. Integers, so exact in any order."""
    local = Totals.of(batches)
    if strategy.world_size == 1:
        return local
    units = sorted(local)
    summed = strategy.gather(torch.tensor([local[unit] for unit in units], dtype=torch.int64)).sum(0)
    return Totals(dict(zip(units, summed.tolist(), strict=True)))


def gather_rows(strategy: Strategy, rows: Tensor) -> Tensor:
    """The rows (n, k) of all ranks, which may hold unequal numbers of them, in the order of the ranks: (sum n, k)."""
    counts = strategy.gather(torch.tensor([len(rows)])).flatten().tolist()
    padded = torch.cat([rows, rows.new_zeros(max(counts) - len(rows), *rows.shape[1:])])
    return torch.cat([part[:count] for part, count in zip(strategy.gather(padded), counts, strict=True)])


def agreed_signal(strategy: Strategy, number: int, everywhere: bool) -> int:
    """The stop signal that came, 0 if none: this process's own when it is alone, else what all ranks know of.

    Ranks ask each other only where all of them come by (`everywhere`); elsewhere several ranks go on.
    """
    if strategy.world_size == 1:
        return number
    return int(strategy.gather(torch.tensor([number])).max()) if everywhere else 0
