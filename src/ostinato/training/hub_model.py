"""`hub:ORG/NAME[@REVISION]`: a model of the Hugging Face hub, its files in the hub's own cache, at one commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ostinato.core.errors import UserError
from ostinato.core.hub import Repository
from ostinato.core.manifest import json_object
from ostinato.training.stored_tensors import INDEX, PICKLES, pickle_refused

TEXTS = (".json", ".model", ".txt", ".jinja")


def fetched(name: str, key: str) -> tuple[Path, dict[str, Any]]:
    """The folder in the hub's cache, and what a lineage records of it: the commit. No pickles, no code, no folders in
    it, and of several sets of weights one. Raises UserError for the config's `key`."""
    path, _, revision = name.removeprefix("hub:").partition("@")
    if not path or path.count("/") > 1:
        raise UserError(f"{key}: {name}: write hub:ORG/NAME or hub:ORG/NAME@REVISION.")
    repository = Repository(path, revision or None, "model")
    files = [file for file in repository.files if "/" not in file]
    if "config.json" not in files:
        raise UserError(f"{key}: {repository.origin} has no config.json, so it is no model of transformers.")
    weights = [file for file in files if file.endswith(".safetensors")]
    pickled = [file for file in files if any(Path(file).match(kind) for kind in PICKLES)]
    if not weights:
        raise UserError(f"{key}: {repository.origin} has no *.safetensors file.{pickle_refused(pickled)}")
    if INDEX in files:
        named = json_object(repository.fetch([INDEX]) / INDEX).get("weight_map")
        weights = list(map(str, named.values())) if isinstance(named, dict) else weights
    elif "model.safetensors" in weights:
        weights = ["model.safetensors"]
    texts = [file for file in files if file.endswith(TEXTS)]
    folder = repository.fetch(sorted({*weights, *texts}))
    return folder, {"hub": repository.origin, "checkpoint": repository.commit}
