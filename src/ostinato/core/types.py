"""The central types: batches that count their units, and sums that are divided once, over the whole step.

No torch import here: tensors are used by their methods only, so that `ostinato.core` stays quick to import.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

B = TypeVar("B", bound="Batch")


class Totals(Mapping[str, int]):
    """Units of a whole optimizer step, over micro-batches and data-parallel ranks: `totals.tokens`, `totals.pairs`."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = dict(counts)

    def __getitem__(self, unit: str) -> int:
        return self._counts[unit]

    def __getattr__(self, unit: str) -> int:
        if unit.startswith("_") or unit not in self._counts:
            raise AttributeError(f"this step counts {', '.join(self._counts) or 'nothing'}, not {unit!r}")
        return self._counts[unit]

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    def __repr__(self) -> str:
        return f"Totals({self._counts})"

    @staticmethod
    def of(batches: Iterable[Batch]) -> Totals:
        """The sum of `counts()` over micro-batches (of one rank)."""
        summed: dict[str, int] = {}
        for batch in batches:
            for unit, count in batch.counts().items():
                summed[unit] = summed.get(unit, 0) + count
        return Totals(summed)


@dataclass
class Batch:
    """A dataclass of tensors whose first dimension is B, and of nested batches. Subclasses define `counts`.

    `totals` is set by the trainer before the first forward pass and is the same on every micro-batch of a step.

    Example:
        @dataclass
        class PointBatch(Batch):
            inputs: Tensor   # (B, D)
            targets: Tensor  # (B,)
            def counts(self): return {"points": len(self.targets)}
    """

    totals: Totals = field(default_factory=lambda: Totals({}), kw_only=True, repr=False)

    def counts(self) -> dict[str, int]:
        """The units this batch holds, by name. The keys are the same for every batch of a step, also an empty one."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it counts: define counts()")

    def to(self: B, device: Any, non_blocking: bool = True) -> B:
        """The same batch with every tensor on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self: B) -> B:
        """The same batch in page-locked host memory."""
        return self._map(lambda tensor: tensor.pin_memory())

    def __len__(self) -> int:
        """B, the number of rows."""
        for value in self._values().values():
            if isinstance(value, Batch) or hasattr(value, "shape"):
                return len(value)
        return 0

    def split(self: B, size: int) -> list[B]:
        """Consecutive batches of `size` rows, the last may be smaller."""
        return [self._map(lambda tensor, a=start: tensor[a : a + size]) for start in range(0, len(self), size)]

    def _values(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "totals"}

    def _map(self: B, function: Any) -> B:
        def apply(value: Any) -> Any:
            if isinstance(value, Batch):
                return value._map(function)
            return function(value) if hasattr(value, "new_zeros") else value

        return dataclasses.replace(self, **{name: apply(value) for name, value in self._values().items()})


@dataclass(frozen=True)
class Mean:
    """A metric before its division: adds up over micro-batches and ranks, divided once at the end of the step.

    `total` and `count` are numbers or 0-d tensors (detached); nothing here waits for the device.
    """

    total: Tensor | float
    count: Tensor | float

    def __add__(self, other: Mean) -> Mean:
        return Mean(self.total + other.total, self.count + other.count)


@dataclass(frozen=True)
class Max:
    """A metric of which the largest counts; -inf where there is none."""

    value: Tensor | float


@dataclass(frozen=True)
class Min:
    """A metric of which the smallest counts; inf where there is none."""

    value: Tensor | float


Metric = Mean | Max | Min


@dataclass
class LossOutput:
    """What `compute_loss` returns for one micro-batch: a sum over units already divided by `batch.totals`."""

    loss: Tensor
    metrics: Mapping[str, Metric] = field(default_factory=dict)


@dataclass(frozen=True)
class StepOutput:
    """What one step did, in plain numbers. `grad_norm` is the norm before clipping, of several updates the mean."""

    step: int
    loss: float
    metrics: dict[str, float]
    grad_norm: float
    learning_rate: float
    tokens: int
    seconds: float
    skipped_updates: int = 0
