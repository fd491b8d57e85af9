"""A model folder of Hugging Face: what our model of it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostinato.core.config import Component
from ostinato.core.errors import UserError
from ostinato.core.inputs import ModelInputs
from ostinato.core.manifest import hash_of
from ostinato.core.registry import FAMILIES, MODELS
from ostinato.data.fingerprint import fingerprint_file
from ostinato.training.score_model import scores_texts


def contents(folder: Path) -> str:
    """xxh3-128 over config.json and the weights, by the rule of data: all bytes, of files above 1 GiB samples."""
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    return hash_of({path.name: fingerprint_file(path)[0] for path in files if path.is_file()})


def read_config(folder: Path) -> dict[str, Any]:
    """config.json; UserError where there is none, or it holds no object."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder}: no model here: there is no config.json.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. Fetch it again.") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no object. Fetch it again.")
    return found


def family_of(config: Mapping[str, Any]) -> Any:
    """The family of a config.json; None: transformers has to compute it."""
    name = config.get("model_type")
    return FAMILIES.get(name) if isinstance(name, str) and name in FAMILIES.names() else None


def foreign_model(folder: Path, config: Mapping[str, Any]) -> tuple[Component, ModelInputs]:
    """The node and inputs of the model that a config.json of transformers describes."""
    what = folder / "config.json"
    if config.get("model_type") is None:
        raise UserError(f"{what}: model_type is missing: no model of ostinato or of transformers.")
    if config.get("quantization_config") is not None:
        raise UserError(f"{what}: quantised weights are not loaded. Give the folder of the whole weights.")
    family, architecture = family_of(config), (config.get("architectures") or [None])[0]
    text = config.get("text_config") or config
    rows = text.get("vocab_size", getattr(family, "vocab_size", None))
    if not isinstance(rows, int) or rows < 1:
        problem = "missing" if rows is None else f"{rows!r}, not a number of tokens"
        raise UserError(f"{what}: vocab_size is {problem}. Restore it from where the model is from.")
    inputs = ModelInputs(rows, int(text.get("max_position_embeddings") or 0))
    if family is None:
        if "hf" not in MODELS.names():
            raise UserError(f"{what}: model_type {config['model_type']}: there is no native model of that family.")
        output = {"output": "scalar"} if scores_texts(config, str(architecture).partition("For")[0]) else {}
        return Component("hf", {"config": dict(config), **output}), inputs
    options = {**read_options(family, config, folder), "family": family.written_as or config["model_type"]}
    if architecture in (None, family.architecture):
        return Component(family.model, options), inputs
    if scores_texts(config, family.architecture):
        return Component(family.model, {**options, "output": "scalar"}), inputs
    raise UserError(f"{what}: {architecture} is no language model and no reward model. Give one that is.")


def read_options(family: Any, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The options of our model; UserError for a config.json that is odd in any way."""
    try:
        found: dict[str, Any] = family.options(config)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    except KeyError as error:
        raise UserError(f"{folder / 'config.json'}: {error.args[0]} is missing. Restore the file.") from None
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise UserError(f"{folder / 'config.json'}: cannot be understood: {error}. Restore the file.") from None
    return found
