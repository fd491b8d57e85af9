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
    own = {
        "name": node.name,
        "options": plain(node.options),
        "inputs": vars(known if isinstance(known, ModelInputs) else inputs),
    }
    described = model.hf_config() if hasattr(model, "hf_config") else None
    if described and not is_renaming(model, described):  # transformers finds the weights under other names
        described = None
    adapter = adapter_files(model, own)
    text = json.dumps({**(described or {}), "ostinato": own}, indent=1, ensure_ascii=False)
    files = {"config.json": text.encode() + b"\n", **adapter}
    if tokenizer is None:
        return files
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        return files | {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def plain(value: Any) -> Any:
    """Tuples and read-only mappings as lists and dicts, for JSON."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "items"):
        return {name: plain(item) for name, item in value.items()}
    return str(value) if isinstance(value, Path) else value
