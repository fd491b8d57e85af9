"""A model folder of Hugging Face: what our model of it is, and where its weights lie in the files."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ostinato.core.config import Component
from ostinato.core.errors import RefusedError, UserError
from ostinato.core.inputs import ModelInputs
from ostinato.core.manifest import hash_of
from ostinato.core.registry import FAMILIES, MODELS
from ostinato.data.fingerprint import fingerprint_file
from ostinato.training.score_model import score_config, stored_statistics
from ostinato.training.state import named_weights
from ostinato.training.stored_tensors import StoredTensors
from ostinato.training.vocabulary import with_new_rows

FETCHED = (".json", ".safetensors", ".model", ".txt", ".jinja")  # of a hub's repository: no pickles, no code


def fetched(name: str) -> tuple[Path, dict[str, Any]]:
    """The folder of `hub:ORG/NAME[@REVISION]` in the hub's cache, and what a lineage records of it: the commit."""
    from ostinato.core.hub import Repository

    organisation, _, revision = name.removeprefix("hub:").partition("@")
    repository = Repository(organisation, revision or None, "model")
    files = [one for one in repository.files if "/" not in one and Path(one).suffix in FETCHED]
    return repository.fetch(files), {"hub": repository.origin, "checkpoint": repository.commit}


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
    if config.get("vocab_size") is None:
        raise UserError(f"{what}: vocab_size is missing. Restore it from where the model is from.")
    family, architecture = family_of(config), (config.get("architectures") or [None])[0]
    inputs = ModelInputs(int(config["vocab_size"]), int(config.get("max_position_embeddings") or 0))
    if family is None:
        if "hf" not in MODELS.names():
            raise UserError(f"{what}: model_type {config['model_type']}: there is no native model of that family.")
        return Component("hf", {"config": dict(config)}), inputs
    options = {**family.options(config), "family": config["model_type"]}
    if architecture in (None, family.architecture):
        return Component(family.model, options), inputs
    scores = score_config({"model_type": config["model_type"], "architectures": [family.architecture]})
    if scores and architecture == scores["architectures"][0] and len(config.get("id2label") or {0: 0}) == 1:
        return Component(family.model, {**options, "output": "scalar"}), inputs
    raise UserError(f"{what}: {architecture} is no language model and no reward model. Give one that is.")


class Whole(NamedTuple):
    """A tensor that lies in the file under the same name, as it is; families say the same of cut ones."""

    name: str
    start: int = 0
    stop: int | None = None
    dim: int = 0
    transposed: bool = False


def piece_of(model: Any, config: Mapping[str, Any], names: Container[str] | None = None) -> Callable[[str], Any]:
    """Where a weight of the model lies in files that go with this config.json; ours lie under their own names.

    Some files leave the family's prefix out in front of `names`.
    """
    family = None if "ostinato" in config else family_of(config)
    if family is None:
        return Whole

    def piece(name: str) -> Any:
        found = family.pieces(name, model.shape) if "." in name else Whole(name)  # a bare name is nobody else's
        if names is not None and found.name not in names and found.name.removeprefix(family.prefix) in names:
            return found._replace(name=found.name.removeprefix(family.prefix))
        return found

    return piece


def load_pieces(
    model: Any, tensors: StoredTensors, config: Mapping[str, Any], grown: tuple[int, int] | None = None
) -> None:
    """Fill a model's weights from a folder's files, one by one. RefusedError: one is missing, unknown or misshapen.

    `grown`: the vocabulary's rows in the files and in the model, where the model has more. What `located` leaves out
    stays as it was drawn.
    """
    wanted = named_weights(model)
    if hasattr(model, "from_files") and "ostinato" not in config and not set(wanted) <= set(tensors):
        found = model.from_files({name: tensors.read(name) for name in tensors})  # as transformers' class reads them
        for name in set(wanted) & set(found):
            wanted[name].data.copy_(with_new_rows(found[name], wanted[name].shape, grown))
        return
    for name, piece in located(model, tensors, config).items():
        fill(wanted[name].data, tensors, piece, name, grown)
    for name, value in stored_statistics(config).items():
        if name in wanted:
            wanted[name].data.fill_(value)


def located(model: Any, tensors: StoredTensors, config: Mapping[str, Any]) -> dict[str, Any]:
    """The piece of a folder's files that each weight of a model is. RefusedError: one is missing or unknown.

    Only the head may differ: `model.heads` names the weights that are left out where the other model has another kind
    of output.
    """
    wanted, piece = named_weights(model), piece_of(model, config, tensors)
    pieces = {name: piece(name) for name in [*wanted, *getattr(model, "heads", ())]}
    tied = tied_heads(model, pieces, tensors)
    heads = {name for name in getattr(model, "heads", ()) if (pieces[name].name in tensors) is not (name in wanted)}
    kept = [name for name in wanted if name not in heads]
    expected = {pieces[name].name for name in kept}
    ignored = () if (family := family_of(config)) is None else family.ignored
    left = {name for name in tensors if not name.endswith(tuple(ignored))} - {pieces[name].name for name in heads}
    check_names(tensors.folder, expected - left, left - expected)
    for name in tied:
        if not torch.equal(tensors.read(name), tensors.read(pieces["model.embed_tokens.weight"].name)):
            raise RefusedError(
                f"{tensors.folder}: config.json says that embeddings are tied, but {name} differs from them. "
                "Set tie_word_embeddings to false there."
            )
    return {name: pieces[name] for name in kept}


def fill(target: Tensor, tensors: StoredTensors, piece: Any, name: str, grown: tuple[int, int] | None) -> None:
    """Copy a stored tensor, or the piece of one, to the weight `name`."""
    place, shape = piece[:4], cut_shape(tensors[piece.name].shape, piece)
    if shape == tuple(target.shape) and not piece.transposed:
        return tensors.read_into(target, *place)
    found = tensors.read(*place)
    found = with_new_rows(found.T if piece.transposed else found, target.shape, grown)
    if found.shape != target.shape:
        shapes = f"shape {list(shape)}, the model wants {list(target.shape)}"
        raise RefusedError(f"{tensors.folder}: {piece.name} gives {name} the {shapes}.")
    target.copy_(found)
    return None


def tied_heads(model: Any, pieces: Mapping[str, Any], tensors: StoredTensors) -> list[str]:
    """A head's weight that is stored though it is the embedding's: it must be equal, and is not loaded."""
    is_tied = getattr(model, "lm_head", model) is None and getattr(model, "score", model) is None
    return ["lm_head.weight"] if is_tied and "lm_head.weight" in tensors and "lm_head.weight" in pieces else []


def check_names(folder: Path, missing: set[str], unknown: set[str]) -> None:
    """Raise RefusedError that names the first few."""
    said = [f"{what}: {', '.join(sorted(some)[:5])}" + (f" and {len(some) - 5} more" if len(some) > 5 else "")
            for what, some in (("missing", missing), ("not of this model", unknown)) if some]  # fmt: skip
    if said:
        raise RefusedError(f"{folder}: the weights are not those that config.json describes: {'; '.join(said)}.")


def cut_shape(shape: tuple[int, ...], piece: Any) -> tuple[int, ...]:
    """The shape of a piece of a stored tensor, as the model has it."""
    found = list(shape)
    if found and len(found) > piece.dim:
        found[piece.dim] = max(0, min(found[piece.dim], piece.stop or found[piece.dim]) - piece.start)
    return tuple(reversed(found)) if piece.transposed else tuple(found)


def is_renaming(model: Any, config: Mapping[str, Any]) -> bool:
    """Whether the files of transformers' class hold the model's weights as they are, under the same names."""
    piece = piece_of(model, config)
    return all(tuple(piece(name)) == tuple(Whole(name)) for name in named_weights(model))
