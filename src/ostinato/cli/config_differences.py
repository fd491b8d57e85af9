"""Which values two configs do not share, and where each comes from."""

from __future__ import annotations

import json
from typing import Any

from ostinato.core.config import Config


def differences(left: Config, right: Config) -> list[dict[str, Any]]:
    """One row per leaf that differs, sorted by key."""
    sides = {"a": leaves(left), "b": leaves(right)}
    missing = object()
    rows = []
    for key in sorted(sides["a"].keys() | sides["b"].keys()):
        if sides["a"].get(key, missing) == sides["b"].get(key, missing):
            continue
        row: dict[str, Any] = {"key": key}
        row |= {side: json.loads(values[key]) for side, values in sides.items() if key in values}
        for side, config in (("a", left), ("b", right)):
            if key in sides[side]:
                chain = config.loaded.origins.explain(key)
                last = chain[-1] if isinstance(chain, list) and chain else {"file": None, "line": None}
                row |= {f"{side}_file": last["file"], f"{side}_line": last["line"]}
        rows.append(row)
    return rows


def leaves(config: Config) -> dict[str, str]:
    """Every leaf of a resolved config, as JSON (so that 1 and true differ)."""
    from ostinato.core.nodes import join

    found: dict[str, str] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict) and value:
            for key, item in value.items():
                walk(item, join(path, key))
        else:
            found[path] = json.dumps(value)

    walk(config.loaded.plain, "")
    return found
