"""Data sets of a hub as a run fetched them: a branch is followed when a run is born, and never again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

HUB = "hub"


def as_fetched(node: Any, origin: str | None) -> Any:
    """A dataset's node at the commit of `origin` (hub:ORG/NAME@COMMIT), which the run recorded for it."""
    if origin is None or node.name != HUB:
        return node
    return replace(node, options={**node.options, "revision": origin.rpartition("@")[2]})


def pins(origins: Mapping[str, str]) -> list[str]:
    """KEY=VALUE that ask for the recorded commits (by the datasets' keys), to run again what ran."""
    found = {key: origin for key, origin in origins.items() if origin.startswith(f"{HUB}:")}
    return [f"{key}.revision={origin.rpartition('@')[2]}" for key, origin in found.items()]
