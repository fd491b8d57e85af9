"""From a config to its data, read top to bottom: sources, tokenizer, prepared samples, held-out part, plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ostinato.core.errors import UserError
from ostinato.core.manifest import hash_of
from ostinato.core.registry import DATASETS
from ostinato.data.fetched import as_fetched
from ostinato.data.fingerprint import cache_folder
from ostinato.data.formats import DataOptions, SampleFormat, Samples
from ostinato.data.joined import Joined
from ostinato.data.plan import Plan
from ostinato.data.receipt import Receipt
from ostinato.data.source import Source, origin_of
from ostinato.data.streamed import StreamedSamples
from ostinato.data.tokenizer import Tokenizer
from ostinato.data.trained_tokenizers import open_tokenizer

ONLY = "train"
"""The name of a source that is not part of a mixture."""


@dataclass(frozen=True)
class Data:
    """All there is before the first step. `identity` decides what is trained on; `fingerprint` is its hash."""

    tokenizer: Tokenizer | Any
    """None where the format is not `tokenized`."""
    format: SampleFormat
    train: dict[str, Samples]
    validation: Samples | None
    plan: Plan
    identity: dict[str, Any]
    origins: dict[str, str] = field(default_factory=dict)
    """By the keys of datasets that fetch: what exactly was fetched."""

    @property
    def fingerprint(self) -> str:
        """xxh3-128; a run is resumed only on the same."""
        return hash_of(self.identity)

    @property
    def receipts(self) -> list[Receipt]:
        """What became of each source's rows."""
        return [part.receipt for part in [*self.train.values(), self.validation] if part is not None]

    def skipping(self, skips: list[tuple[int, int]]) -> Data:
        """The same data, read on as if some steps had passed."""
        plan = self.plan.skipping(skips)
        return replace(self, plan=plan, identity={**self.identity, "skips": [list(skip) for skip in plan.skips]})


def open_data(
    config: Any,
    format_class: type[SampleFormat],
    *,
    tokenizer: Tokenizer | None = None,
    fetched: Mapping[str, str] | None = None,
) -> Data:
    """Read, tokenise (once: cached), filter and count everything a config's `data` section names.

    `tokenizer` replaces the config's, for models that bring their own. `fetched`: the `origins` that a resumed run
    recorded, so that it meets the same data. Raises UserError where data cannot be used.
    """
    data, seed, cache = config.data, config.experiment.seed, cache_folder()
    nodes = training_nodes(config)
    origins: dict[str, str] = {}

    def open_source(node: Any) -> Source:
        source: Source = DATASETS.build(as_fetched(node, (fetched or {}).get(node.key)), seed)
        if origin := origin_of(source):
            origins[node.key] = origin
        return source

    sources = {label: open_source(node) for label, node in nodes.items()}
    if tokenizer is None and format_class.tokenized:
        tokenizer = open_tokenizer(_tokenizer_node(config), sources, cache)
    options = DataOptions(
        tokenizer=tokenizer,
        sequence_length=data.sequence_length,
        cache=cache,
        packing=data.packing,
        train_on=data.train_on,
        overlong=data.overlong,
        on_empty=data.on_empty,
        seed=seed,
    )
    form = format_class(options)
    train = {label: form.prepare(source, label) for label, source in sources.items()}
    if data.validation is not None:
        validation: Samples | None = form.prepare(open_source(data.validation), "validation")
    else:
        train, validation = _hold_out(data, train)
    plan = Plan(
        {label: len(samples) for label, samples in train.items()},
        weights={label: getattr(node, "weight", 1.0) for label, node in nodes.items()},
        batch_size=config.training.batch_size,
        seed=seed,
        shuffle=data.shuffle,
        mixture_block=data.mixture_block,
        stages=data.stages,
        blocks={label: samples.blocks for label, samples in train.items() if isinstance(samples, StreamedSamples)},
    )
    contents = {label: samples.fingerprint for label, samples in train.items()}
    identity = plan.identity(
        contents,
        sequence_length=data.sequence_length,
        packing=data.packing,
        tokenizer=tokenizer and tokenizer.fingerprint,
        validation=None if validation is None else validation.fingerprint,
    )
    return Data(tokenizer, form, train, validation, plan, identity, origins)


def training_nodes(config: Any) -> Mapping[str, Any]:
    """The config's training sources by label: one, called `train`, or a mixture."""
    node = config.data.train
    if node is None or (node.name is None and not node.sources):
        raise UserError("data.train: not set. Name a dataset: data: {train: {name: text, path: my.txt}}.")
    return node.sources or {ONLY: node}


def _hold_out(data: Any, train: dict[str, Samples]) -> tuple[dict[str, Samples], Samples | None]:
    """What is trained on, and the end of each source that is held out."""
    if not data.validation_fraction:
        return train, None
    halves = {label: samples.split(data.validation_fraction) for label, samples in train.items()}
    for label, (kept, held_out) in halves.items():
        if not len(kept) or not len(held_out):
            part = "nothing to train on" if not len(kept) else "nothing held out"
            raise UserError(
                f"data.validation_fraction: {data.validation_fraction} of source {label} ({len(train[label])} samples) "
                f"leaves {part}. Change it, or name a data.validation."
            )
    held = [half for _, half in halves.values()]
    return {label: half for label, (half, _) in halves.items()}, held[0] if len(held) == 1 else Joined("held out", held)


def _tokenizer_node(config: Any) -> Any:
    """The tokenizer section; a pretrained one without a path is the one of the model's folder."""
    node, model = config.tokenizer, config.model.init_from
    if node.name == "pretrained" and node.path is None and model is not None and Path(model).is_dir():
        return replace(node, path=model)
    return node
