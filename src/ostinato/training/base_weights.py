"""Weights that a run stands on and does not train: known by their hash, refused when they are others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xxhash
from torch import Tensor

from ostinato.core.errors import RefusedError
from ostinato.core.manifest import hash_of, json_text
from ostinato.distributed.shards import whole
from ostinato.training.tensor_files import raw_bytes


def digests_of(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """xxh3-128 of each weight: name, shape, dtype and every bit."""
    found = {}
    for name, weight in weights.items():
        digest = xxhash.xxh3_128(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(raw_bytes(whole(weight).cpu()))
        found[name] = digest.hexdigest()
    return found


def base_hashes(model: Any) -> dict[str, str | None]:
    """Of the weights that an adapted model stands on, as they were loaded.

    Heads that it does not train have a hash of their own, None if there is none: models of other outputs have others.
    """
    digests, heads = model.adapter.digests, getattr(model, "heads", ())
    frozen = {name: digest for name, digest in digests.items() if name in heads and name not in model.adapter.whole}
    return {
        "xxh3": hash_of({name: digest for name, digest in digests.items() if name not in heads}),
        "heads_xxh3": hash_of(frozen) if frozen else None,
    }


def refuse_other_base(expected: Mapping[str, Any], found: Mapping[str, Any], what: str) -> None:
    """Raise RefusedError where the frozen weights, or an adapter that was given to start from, are not the same."""
    if None not in (start := [one.get("start_xxh3") for one in (expected, found)]) and start[0] != start[1]:
        raise RefusedError(f"{what}: the adapter that the run started from is another one now.")
    pairs = ((expected.get(name), found.get(name)) for name in ("xxh3", "heads_xxh3"))
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        base = expected.get("folder") or f"the weights of seed {expected.get('seed')}"
        raise RefusedError(f"{what}: its adapter was trained on other weights than {base} has now.")


def adapter_files(model: Any, own: dict[str, Any]) -> dict[str, bytes]:
    """adapter_config.json of an adapted model, for its checkpoints; what it is goes into config.json's `own` part."""
    adapter = getattr(model, "adapter", None)
    if adapter is None:
        return {}
    own["adapter"], own["base"] = {"name": adapter.name, **adapter.options}, adapter.base
    return {"adapter_config.json": json_text(adapter.config(model))}
