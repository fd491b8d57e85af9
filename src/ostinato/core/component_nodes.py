"""The config nodes that name a component: their common fields; all else in them are the component's options."""

from __future__ import annotations

from dataclasses import dataclass

from ostinato.core.fields import Component, option


@dataclass(frozen=True)
class Adapter(Component):
    """A model that wraps another one, e.g. `lora`."""

    KIND = "MODELS"


@dataclass(frozen=True)
class Model(Component):
    """The network."""

    KIND = "MODELS"
    init_from: str | None = option(None, "run:NAME[@step], a folder, hub:ORG/NAME[@REVISION]; null: fresh weights")
    adapter: Adapter | None = option(None, "what to train instead of all weights, e.g. lora")


@dataclass(frozen=True)
class Dataset(Component):
    """A source of rows."""

    KIND = "DATASETS"


@dataclass(frozen=True)
class WeightedDataset(Component):
    """A source in a mixture."""

    KIND = "DATASETS"
    weight: float = option(1.0, "its share of the samples, relative to the others'", minimum=0)


@dataclass(frozen=True)
class TrainingData(Component):
    """What is trained on: one source, or a mixture."""

    KIND = "DATASETS"
    sources: dict[str, WeightedDataset] = option({}, "a mixture, instead of `name`")


@dataclass(frozen=True)
class Algorithm(Component):
    """The method; its options are in the top-level section that bears its name."""

    KIND = "ALGORITHMS"


@dataclass(frozen=True)
class Optimizer(Component):
    """How gradients change weights."""

    KIND = "OPTIMIZERS"
    name: str = option("adamw", "which optimizer")


@dataclass(frozen=True)
class Scheduler(Component):
    """The learning rate over the steps."""

    KIND = "SCHEDULERS"
    name: str = option("cosine", "which schedule")
    warmup_steps: int = option(0, "steps of linear rise to the peak", minimum=0)


@dataclass(frozen=True)
class Distributed(Component):
    """How the work is spread over processes."""

    KIND = "STRATEGIES"
    NAME_KEY = "strategy"
    name: str = option("single", "which strategy", science=False)


@dataclass(frozen=True)
class Reward(Component):
    """One part of the reward."""

    KIND = "REWARDS"
    weight: float = option(1.0, "its weight in the sum")


@dataclass(frozen=True)
class Evaluator(Component):
    """One evaluation."""

    KIND = "EVALUATORS"


@dataclass(frozen=True)
class Tracker(Component):
    """One place besides metrics.jsonl that metrics go to."""

    KIND = "TRACKERS"
