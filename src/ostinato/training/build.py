"""All wiring, read top to bottom: data, model, optimizer, trainer. No component is built anywhere else."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from ostinato.core.config import Component, Config
from ostinato.core.errors import UserError
from ostinato.core.inputs import ModelInputs
from ostinato.core.registry import ALGORITHMS, OPTIMIZERS, SCHEDULERS, STRATEGIES
from ostinato.core.stopping import StopFlag
from ostinato.data.build import Data, open_data
from ostinato.data.loader import Loader
from ostinato.distributed.strategy import Strategy
from ostinato.training import numerics
from ostinato.training.guards import LossGuard
from ostinato.training.initialise import parameter_groups
from ostinato.training.model_files import model_files
from ostinato.training.model_maker import ModelMaker, with_output
from ostinato.training.trainer import BaseTrainer, Parts
from ostinato.training.vocabulary import check_same_tokens, describe_vocabulary, growth, rows_of
from ostinato.training.weights import Origin, find_origin, inherited_tokenizer

Event = Callable[..., None]


def ignore_event(name: str, step: int, **fields: object) -> None:
    """Where there is no run to record events in."""


def open_strategy(config: Config) -> Strategy:
    """The strategy named by the config, its process group ready."""
    strategy: Strategy = STRATEGIES.build(config.distributed, config.training.device)
    strategy.setup()
    return strategy


def build(
    config: Config,
    strategy: Strategy,
    event: Event = ignore_event,
    stop: StopFlag | None = None,
    threads: int | None = None,
    began_from: Mapping[str, Any] | None = None,
    fetched: Mapping[str, str] | None = None,
) -> Built:
    """Everything a run needs before its folder exists. Raises UserError for what the config asks in vain.

    `began_from` and `fetched`: the lineage and the data's origins that a resumed run recorded, so that it meets the
    very weights and data that it began from.
    """
    config.check_ranks(strategy.world_size)
    if config.generation.remote is not None:
        raise UserError("generation.remote: sampling from a server is not built yet. Leave it null.")
    tier = numerics.choose_tier(config.training.numerics, strategy.device)
    numerics.apply_tier(tier, config, strategy.device)
    if tier == "elastic":
        numerics.check_elastic(config.training, strategy)
        strategy.elastic = True
    numerics.set_threads(1 if tier == "elastic" else config.training.threads or threads)

    origin = find_origin(config, began_from)
    algorithm = ALGORITHMS.get(config.algorithm.name)
    prepare = functools.partial(
        open_data,
        config,
        algorithm.sample_format,
        tokenizer=inherited_tokenizer(config, origin),
        fetched=fetched,
    )
    data = main_first(strategy, prepare)

    node, inputs = model_description(config, origin, data, algorithm.model_output)
    models = algorithm.make_models(ModelMaker(config, node, inputs, strategy.device, origin), config.algorithm.options)
    for trained in models.values():
        prepare_model(trained, config)
    strategy.wrap_model(nn.ModuleDict(models))

    optimizer = OPTIMIZERS.build(
        config.optimizer,
        parameter_groups(models),
        config.training.learning_rate,
        numerics.optimizer_implementation(tier),
    )
    parts = Parts(
        config=config,
        strategy=strategy,
        models=models,
        optimizer=optimizer,
        data=data,
        open_loader=functools.partial(open_loader, config, strategy, data),
        learning_rate_at=learning_rate(config),
        autocast=functools.partial(numerics.autocast, config.training.mixed_precision, strategy.device),
        guard=LossGuard(config.training.on_nonfinite, config.training.on_spike, event),
        stop=stop or StopFlag(),
    )
    trainer: BaseTrainer = ALGORITHMS.build(config.algorithm, parts)
    grown = growth(origin, models["model"])
    if origin is not None and grown is not None:
        origin = replace(origin, lineage={**origin.lineage, "new_rows": grown[1] - grown[0]})
    vocabulary = describe_vocabulary(data.tokenizer, inputs.vocab_size, grown) if data.format.tokenized else None
    files = model_files(config, node, models["model"], inputs, data.tokenizer)
    return Built(trainer, tier, origin, files, vocabulary)


def main_first(strategy: Strategy, make: Callable[[], Data]) -> Data:
    """Rank 0 prepares (and caches) what the others then find ready."""
    if not strategy.is_main:
        strategy.share(None)
        return make()
    try:
        return make()
    finally:
        strategy.share(None)


class Built:
    """A trainer, and what a run records of it."""

    def __init__(
        self,
        trainer: BaseTrainer,
        tier: str,
        origin: Origin | None,
        files: dict[str, bytes],
        vocabulary: str | None = None,
    ) -> None:
        self.trainer, self.tier, self.origin, self.model_files = trainer, tier, origin, files
        self.vocabulary = vocabulary
        """A line about rows that are new, or that no token has."""

    @property
    def origins(self) -> list[Origin]:
        """All that the run stands on: what it began from, and a teacher."""
        return [one for one in (self.origin, getattr(self.trainer, "origin", None)) if one is not None]


def model_description(config: Config, origin: Origin | None, data: Data, output: str) -> tuple[Component, ModelInputs]:
    """The model's node, and what it is told: as in the config, else as in the run that it starts from."""
    node: Component = config.model
    vocab_size = data.tokenizer.vocab_size if data.format.tokenized else 0
    if vocab_size > rows_of(origin) > 0:
        check_same_tokens(data.tokenizer, origin)
    vocab_size = max(vocab_size, rows_of(origin))  # rows that no token has are kept, missing ones are added
    inputs = ModelInputs(vocab_size, config.data.sequence_length)
    if node.name is None:
        if origin is None:
            raise UserError("model.name: missing. Name a model, or start from one with model.init_from.")
        node, inputs = origin.model
        inputs = replace(inputs, vocab_size=vocab_size)
    return with_output(node, output), inputs


def prepare_model(model: Any, config: Config) -> None:
    """Recomputation and compilation, block by block, where the model has blocks."""
    if hasattr(model, "adapter"):
        model.adapter.check_precision(model, config.training.mixed_precision)
    if config.training.gradient_checkpointing:
        if not hasattr(model, "set_checkpointing"):
            raise UserError(f"training.gradient_checkpointing: {config.model.name} has no blocks to recompute.")
        model.set_checkpointing(True)
    if config.training.compile:
        for block in model.blocks() if hasattr(model, "blocks") else [model]:
            block.compile()


def open_loader(config: Config, strategy: Strategy, data: Data, skips: list[tuple[int, int]]) -> Loader:
    """This rank's loader over the plan, with the step ranges that were skipped."""
    return Loader(
        data.plan.skipping(skips),
        data.train,
        data.format,
        micro_batch_size=data.format.rows_at_once or config.training.micro_batch_size,
        accumulation=config.training.gradient_accumulation,
        rank=strategy.rank,
        world_size=strategy.world_size,
        workers=config.data.workers,
        prefetch=config.data.prefetch,
    )


def learning_rate(config: Config) -> Callable[[int], float]:
    """`learning_rate_at(step)`: the peak times the schedule's factor, a pure function of the step."""
    schedule = SCHEDULERS.get(config.scheduler.name)
    peak, total, warmup = config.training.learning_rate, config.training.total_steps, config.scheduler.warmup_steps
    options = dict(config.scheduler.options)
    return lambda step: peak * schedule(step, total, warmup, **options)
