"""What a trainer is made of; put together in `build.py`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ostinato.core.config import Config
from ostinato.core.stopping import StopFlag
from ostinato.core.types import Totals
from ostinato.data.build import Data
from ostinato.data.loader import Loader
from ostinato.distributed.strategy import Strategy
from ostinato.training.guards import LossGuard
from ostinato.training.numerics import choose_tier

if TYPE_CHECKING:
    from ostinato.training.saver import Saver


@dataclass
class Parts:
    """Handed to every algorithm's constructor, which passes it on to BaseTrainer."""

    config: Config
    strategy: Strategy
    models: dict[str, nn.Module]  # what is trained: `model`, which the run is for, and others beside it
    optimizer: torch.optim.Optimizer
    data: Data
    open_loader: Callable[[list[tuple[int, int]]], Loader]  # given the plan's skips
    learning_rate_at: Callable[[int], float]
    autocast: Callable[[], AbstractContextManager[Any]]
    guard: LossGuard
    stop: StopFlag = field(default_factory=StopFlag)
    saver: Saver | None = None
    outputs: Path | None = None  # the run's folder for what an algorithm writes itself; None: nothing is written
    validation_totals: Totals | None = None  # the units of the held-out data, once they were counted

    @property
    def exact(self) -> bool:
        """Whether a run's bits are promised to repeat."""
        return choose_tier(self.config.training.numerics, self.strategy.device) != "fast"
