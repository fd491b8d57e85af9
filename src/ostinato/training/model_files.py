"""What lies beside the weights of a checkpoint: config.json and the tokenizer's files."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from ostinato.core.config import Component, Config
from ostinato.core.inputs import ModelInputs
from ostinato.data.tokenizer import Tokenizer
from ostinato.training.base_weights import adapter_files
from ostinato.training.foreign_weights import is_renaming


def model_files(
    config: Config | None, node: Component, model: Any, inputs: ModelInputs, tokenizer: Tokenizer | None
) -> dict[str, bytes]:
    """What lies beside the weights in a checkpoint: config.json and the tokenizer's files, if there is one."""
    known = getattr(model, "inputs", None)  # its vocabulary may be larger than the tokenizer's
    known = known if isinstance(known, ModelInputs) else inputs
    own = {"name": node.name, "options": plain(node.options), "inputs": vars(known)}
    adapter = adapter_files(model, own)
    text = json.dumps({**(config_of(model) or {}), "ostinato": own}, indent=1, ensure_ascii=False)
    files = {"config.json": text.encode() + b"\n", **adapter}
    if tokenizer is None:
        return files
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        return files | {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def config_of(model: Any) -> dict[str, Any] | None:
    """config.json for transformers, where one of its classes has the weights of a checkpoint under their own names."""
    described: dict[str, Any] | None = model.hf_config() if hasattr(model, "hf_config") else None
    return described if described and is_renaming(model, described) else None


def plain(value: Any) -> Any:
    """Tuples and read-only mappings as lists and dicts, for JSON."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "items"):
        return {name: plain(item) for name, item in value.items()}
    return str(value) if isinstance(value, Path) else value
