"""generation_config.json: where a text ends, and how the run samples when nothing else is said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostinato.data.tokenizer import Tokenizer


def generation_config(tokenizer: Tokenizer, folder: Path, sampling: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """From a run's `generation` section, else from the generation_config.json that lies in `folder` already.

    `max_new_tokens` is left out: servers take it for the most that anybody may ask for. So are stop strings, without
    which transformers needs no tokenizer to generate.
    """
    settings = of_section(sampling) if sampling is not None else of_file(folder / "generation_config.json")
    ends = settings.pop("eos_token_id", None)
    known = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    ids = list(dict.fromkeys([*tokenizer.eos_ids, *known]))
    named = {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}
    settings |= {name: index for name, index in named.items() if index is not None}
    if ids:
        settings["eos_token_id"] = ids[0] if len(ids) == 1 else ids
    return dict(sorted(settings.items()))


def of_section(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Options in transformers' words. `top_k` 0 is all tokens there; left out it may be 50."""
    greedy = not sampling["temperature"]
    settings: dict[str, Any] = {"do_sample": not greedy}
    if not greedy:
        settings |= {"temperature": sampling["temperature"], "top_k": sampling["top_k"] or 0}
    others = {"repetition_penalty": 1.0} if greedy else {"repetition_penalty": 1.0, "top_p": 1.0, "min_p": 0.0}
    return settings | {name: sampling[name] for name, off in others.items() if sampling[name] != off}


def of_file(path: Path) -> dict[str, Any]:
    """What is said there; {} for no file."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {name: value for name, value in found.items() if value is not None} if isinstance(found, dict) else {}
