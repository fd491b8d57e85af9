"""Rules that span several keys: how a batch is cut, and what excludes what."""

from __future__ import annotations

import math
from typing import Any

from ostinato.core.merged import Merged
from ostinato.core.mistakes import NOWHERE, ConfigError, Mistake, Mistakes, Place
from ostinato.core.schema import Training

BATCH = ("batch_size", "micro_batch_size", "gradient_accumulation")


def check_rules(plain: dict[str, Any], root: Merged, mistakes: Mistakes) -> None:
    """Note what no number of ranks can satisfy, and keys that exclude each other."""
    _batch(plain["training"], root, mistakes)
    data = plain["data"]
    train = data.get("train") if isinstance(data, dict) else None
    if isinstance(train, dict) and train["name"] is not None and train["sources"] not in ({}, None):
        text = f"a mixture stands instead of one source, but name is {train['name']}. Keep one of the two."
        mistakes.add(_key_place(root, "data", "train", "sources"), "data.train.sources", text)


def _batch(training: Any, root: Merged, mistakes: Mistakes) -> None:
    if not isinstance(training, dict):
        return
    batch, micro, pieces = (training[key] for key in BATCH)
    if any(not isinstance(value, int | None) for value in (batch, micro, pieces)):
        return  # a mistake already took one away
    if mistakes.unread and not _written(root, "batch_size"):
        return  # a file that could not be read may set it
    key = "training.batch_size"
    if micro and pieces and batch % (micro * pieces):
        text = (
            f"{batch} is not micro_batch_size {micro} x gradient_accumulation {pieces} x a whole number of ranks. "
            "Give only one of the two."
        )
        mistakes.add(_value_place(root, BATCH), key, text)
        return
    for name, value in (("micro_batch_size", micro), ("gradient_accumulation", pieces)):
        if value and value > batch:
            text = f"{value} is more than batch_size {batch}, the sequences of a step over all ranks. Lower it."
            mistakes.add(_value_place(root, (name,)), f"training.{name}", text)


def _written(root: Merged, key: str) -> bool:
    section = (root.children or {}).get("training")
    return section is not None and key in section.live


def _value_place(root: Merged, keys: tuple[str, ...]) -> Place:
    section = (root.children or {}).get("training")
    live = section.live if section is not None else {}
    return next((node.place for key in keys if key in live and (node := live[key].node) is not None), NOWHERE)


def _key_place(root: Merged, *keys: str) -> Place:
    node: Merged | None = root
    for key in keys:
        node = (node.children or {}).get(key) if node is not None else None
    return node.place if node is not None else NOWHERE


def check_ranks(training: Training, ranks: int, place: Place = NOWHERE) -> None:
    """Insist that the batch can be shared out among `ranks` data-parallel ranks; raises ConfigError."""
    batch, micro, pieces = training.batch_size, training.micro_batch_size, training.gradient_accumulation
    text = None
    if batch % ranks:
        text = f"{batch} is no multiple of the {ranks} data-parallel ranks. Choose one that is."
    elif micro and pieces and micro * pieces * ranks != batch:
        text = (
            f"{batch} is not micro_batch_size {micro} x gradient_accumulation {pieces} x {ranks} ranks. "
            "Give only one of the two."
        )
    if text:
        raise ConfigError([Mistake(place, "training.batch_size", text)])


def describe_batch(training: Training, ranks: int) -> str:
    """The start-up line: `32 sequences a step = 2 ranks x 4 micro-batches x 4`."""
    share = training.batch_size // ranks
    size = training.micro_batch_size or math.ceil(share / (training.gradient_accumulation or 1))
    count = math.ceil(share / size)
    last = share - (count - 1) * size
    pieces = f"{ranks} rank{'s' * (ranks > 1)} x {count} micro-batch{'es' * (count > 1)} x {min(size, share)}"
    rest = f" (the last {last})" if count > 1 and last != size else ""
    return f"{training.batch_size} sequences a step = {pieces}{rest}"
