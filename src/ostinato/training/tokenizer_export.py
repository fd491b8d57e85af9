"""A tokenizer as files for transformers 5: chat templates in files of their own, beside tokenizer_config.json."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from ostinato.core.manifest import json_text
from ostinato.data.tokenizer import Tokenizer

TEMPLATES = "additional_chat_templates"


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """By name: tokenizer.json, tokenizer_config.json, chat_template.jinja, those of other uses in a folder."""
    with tempfile.TemporaryDirectory() as name:
        tokenizer.save(Path(name))
        files = {path.name: path.read_bytes() for path in sorted(Path(name).iterdir())}
    settings = json.loads(files["tokenizer_config.json"])
    given = settings.pop("chat_template", None)
    templates = {one["name"]: one["template"] for one in given} if isinstance(given, list) else {"default": given}
    if all(re.fullmatch(r"\w[\w-]*", name) for name in templates):
        files["tokenizer_config.json"] = json_text(settings)
        for name, text in templates.items():
            if text is not None:
                path = "chat_template.jinja" if name == "default" else f"{TEMPLATES}/{name}.jinja"
                files[path] = text.encode()
    return files


def special_tokens(tokenizer: Tokenizer) -> list[str]:
    """Its special tokens, by id."""
    added: list[dict[str, Any]] = json.loads(tokenizer_files(tokenizer)["tokenizer.json"]).get("added_tokens") or []
    return [token["content"] for token in sorted(added, key=lambda token: token["id"]) if token["special"]]
