"""Special tokens and chat template as they lie beside a tokenizer.json, in the spellings of several years."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_settings(folder: Path) -> dict[str, Any]:
    """What tokenizer_config.json, special_tokens_map.json and chat_template.jinja say, as arguments of Tokenizer."""
    config = {**_json(folder / "special_tokens_map.json"), **_json(folder / "tokenizer_config.json")}
    names = {kind: _content(config.get(f"{kind}_token")) for kind in ("bos", "eos", "pad")}
    template = config.get("chat_template")
    if isinstance(template, list):  # several, by name
        template = next((one["template"] for one in template if one["name"] == "default"), None)
    if (file := folder / "chat_template.jinja").is_file():
        template = file.read_text("utf-8")
    return {**names, "ends": config.get("end_tokens", ()), "chat_template": template}


def _json(file: Path) -> dict[str, Any]:
    values = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return {name: value for name, value in values.items() if value is not None}


def _content(token: Any) -> str | None:
    """Special tokens are written as a string or as a map with `content`."""
    return token["content"] if isinstance(token, dict) else token
