"""Samples of several runs at equal steps, few enough to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError
from ostinato.experiment.reading import number
from ostinato.experiment.samples import Kept, Row, kept_samples, prompt_text

MOST_STEPS = 8
MOST_SAMPLES = 12  # of one run at one step
OF_ONE_PROMPT = 3
BYTES_BUDGET = 200_000  # of all texts together, as HTML
MOST_RUNS = 8  # side by side
MOST_BYTES = 1200  # of one text


def samples(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """By step: {step, open, columns}, a column per run: {run, count, rows, problem}; `open` is the last step that most
    runs have. Steps that several runs have come
    before others when there are too many; the first and the last are always there."""
    kept = [{one.step: one for one in kept_samples(folder)} for folder in folders]
    having = [run for run, steps in enumerate(kept) if steps][:MOST_RUNS]
    steps = chosen([list(kept[run]) for run in having])
    texts = max(1, len(steps) * len(having) * MOST_SAMPLES * 2)
    limit = min(MOST_BYTES, max(80, BYTES_BUDGET // texts))
    most = max((sum(step in kept[run] for run in having) for step in steps), default=0)
    fullest = [step for step in steps if sum(step in kept[run] for run in having) == most]
    return [
        {
            "step": step,
            "open": step == fullest[-1],
            "columns": [{"run": run, **column(kept[run].get(step), limit)} for run in having],
        }
        for step in steps
    ]


def chosen(steps: Sequence[Sequence[int]]) -> list[int]:
    """At most 8 steps: evenly of those that all runs have, or of all there are."""
    union = sorted({step for run in steps for step in run})
    common = [step for step in union if all(step in run for run in steps)]
    source = common if len(common) > 1 else union
    if len(source) > MOST_STEPS:
        source = [source[round(place * (len(source) - 1) / (MOST_STEPS - 1))] for place in range(MOST_STEPS)]
    return sorted({*source, *union[-1:]})


def column(kept: Kept | None, limit: int) -> dict[str, Any]:
    """What one run has of a step."""
    if kept is None:
        return {"count": 0, "rows": [], "problem": None}
    try:
        rows = kept.read()
    except (RefusedError, OSError) as error:
        return {"count": 0, "rows": [], "problem": str(error)}
    return {"count": len(rows), "rows": [sample(row, limit) for row in few(rows)], "problem": None}


def few(rows: Sequence[Row]) -> list[Row]:
    """Some of each prompt: what was drawn often of one says less than another prompt."""
    seen: dict[str, int] = {}
    found: list[Row] = []
    for row in rows:
        prompt = json.dumps(row.get("prompt", len(found)), sort_keys=True, default=str)
        seen[prompt] = seen.get(prompt, 0) + 1
        if seen[prompt] <= OF_ONE_PROMPT:
            found.append(row)
        if len(found) == MOST_SAMPLES:
            break
    return found


def sample(row: Row, limit: int) -> dict[str, Any]:
    """A sample as texts and numbers; `text` for one without prompt."""
    parts = row.get("parts")
    return {
        "prompt": cut(prompt_text(row["prompt"]), limit) if "prompt" in row else None,
        "text": cut(str(row.get("response", row.get("text", ""))), limit),
        "score": finite(row.get("score")),
        "parts": {str(name): finite(value) for name, value in parts.items()} if isinstance(parts, dict) else {},
        "tokens": row.get("tokens"),
        "stop": row.get("stop_reason"),
    }


def finite(value: Any) -> float | None:
    found = number(value)
    return found if found - found == 0 else None


def cut(text: str, limit: int) -> str:
    """The beginning of a long text, at most `limit` bytes of HTML, and how much is left out."""
    if len(escape(text[:limit]).encode(errors="replace")) > limit:
        limit = limit * min(limit, len(text)) // len(escape(text[:limit]).encode(errors="replace"))
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit} more characters)"
