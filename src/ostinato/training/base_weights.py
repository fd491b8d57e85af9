"""Weights that a run stands on and does not train: known by their hash, refused when they are others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xxhash
from torch import Tensor

from ostinato.core.errors import RefusedError
from ostinato.training.tensor_files import raw_bytes


def base_hashes(model: Any, weights: Mapping[str, Tensor]) -> dict[str, str | None]:
    """xxh3-128 of those of an adapted model's `weights` that it does not store: names, shapes and every bit.

    Heads have a hash of their own, None if there is none: models of other outputs have others.
    """
    stored = {id(tensor) for tensor in model.adapter.stored(model).values()}
    frozen = {name: weight for name, weight in weights.items() if id(weight) not in stored}
    heads = {name: weight for name, weight in frozen.items() if name in getattr(model, "heads", ())}
    return {
        "xxh3": hash_of_weights({name: weight for name, weight in frozen.items() if name not in heads}),
        "heads_xxh3": hash_of_weights(heads) if heads else None,
    }


def hash_of_weights(weights: dict[str, Tensor]) -> str:
    digest = xxhash.xxh3_128()
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(raw_bytes(weight.detach().cpu()))
    return digest.hexdigest()


def refuse_other_base(expected: Mapping[str, Any], found: Mapping[str, Any], what: str) -> None:
    """Raise RefusedError where the frozen weights are not those that an adapter was trained on."""
    pairs = ((expected.get(name), found.get(name)) for name in ("xxh3", "heads_xxh3"))
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        base = expected.get("folder") or f"the weights of seed {expected.get('seed')}"
        raise RefusedError(f"{what}: its adapter was trained on other weights than {base} has now.")
