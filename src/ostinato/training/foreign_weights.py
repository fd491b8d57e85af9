"""Where the weights of a model lie in the files of a folder, its own or one of Hugging Face, and how they get there."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ostinato.core.errors import RefusedError
from ostinato.distributed.shards import is_sharded, own, own_rows, put
from ostinato.training.foreign import family_of
from ostinato.training.score_model import stored_statistics
from ostinato.training.state import named_weights
from ostinato.training.stored_tensors import StoredTensors
from ostinato.training.vocabulary import with_new_rows

HEAD = "lm_head.weight"


class Whole(NamedTuple):
    """A tensor that lies in the file under the same name, as it is; families say the same of cut ones."""

    name: str
    start: int = 0
    stop: int | None = None
    dim: int = 0
    transposed: bool = False


def piece_of(model: Any, config: Mapping[str, Any], names: Container[str] | None = None) -> Callable[[str], Any]:
    """Where a weight of the model lies in files that go with this config.json; ours lie under their own names.

    `names` in files of several years begin otherwise, or leave the family's prefix out.
    """
    family = None if "ostinato" in config or not hasattr(model, "shape") else family_of(config)
    if family is None:  # the folder is ours, or the model is one of transformers or of the user's own
        return Whole

    def piece(name: str) -> Any:
        found = family.pieces(name, model.shape) if "." in name else Whole(name)  # a bare name is nobody else's
        others = (other + found.name.removeprefix(own) for own, other in family.spellings if found.name.startswith(own))
        spelled = (found.name, found.name.removeprefix(family.prefix), *others)
        return found._replace(name=next((one for one in spelled if one in (names or ())), found.name))

    return piece


def load_pieces(
    model: Any, tensors: StoredTensors, config: Mapping[str, Any], grown: tuple[int, int] | None = None
) -> None:
    """Fill a model's weights from a folder's files, one by one. RefusedError: one is missing, unknown or misshapen.

    `grown`: the vocabulary's rows in the files and in the model, where the model has more. What `located` leaves out
    stays as it was drawn.
    """
    wanted = named_weights(model)
    if is_converted(model, tensors, config):
        for name, tensor in converted(model, tensors).items():
            if name in wanted:
                put(wanted[name], with_new_rows(tensor, wanted[name].shape, grown))
        return
    for name, piece in located(model, tensors, config).items():
        fill(wanted[name].data, tensors, piece, name, grown)
    for name, value in stored_statistics(config).items():
        if name in wanted:
            wanted[name].data.fill_(value)


def is_converted(model: Any, tensors: StoredTensors, config: Mapping[str, Any]) -> bool:
    """Whether these are files of a class of transformers whose modules hold the weights otherwise."""
    if "ostinato" in config or not hasattr(model, "from_files"):
        return False
    wanted, heads = set(named_weights(model)), set(model.heads)
    return not wanted - heads <= set(tensors) <= wanted | heads


def converted(model: Any, tensors: StoredTensors) -> dict[str, Tensor]:
    """All tensors of such files by the names of the modules. RefusedError: one is missing, unknown or misshapen."""
    found: dict[str, Tensor] = model.from_files({name: tensors.read(name) for name in tensors})
    return found


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
    left = {name for name in tensors if not any(part in name for part in ignored)} - {
        pieces[name].name for name in heads
    }
    if HEAD in heads and HEAD in wanted and "ostinato" not in config and "score.weight" not in tensors:
        raise RefusedError(
            f"{tensors.folder}: {HEAD} is missing. If the head of this model is its embedding, write "
            "tie_word_embeddings: true into its config.json."
        )
    check_names(tensors.folder, expected - left, left - expected)
    for name in tied:
        if not torch.equal(tensors.read(pieces[name].name), tensors.read(pieces["model.embed_tokens.weight"].name)):
            raise RefusedError(
                f"{tensors.folder}: config.json says that embeddings are tied, but {name} differs from them. "
                "Set tie_word_embeddings to false there."
            )
    return {name: pieces[name] for name in kept}


def fill(target: Tensor, tensors: StoredTensors, piece: Any, name: str, grown: tuple[int, int] | None) -> None:
    """Copy a stored tensor, or the piece of one, to the weight `name`."""
    place, shape = piece[:4], cut_shape(tensors[piece.name].shape, piece)
    if (kind := tensors[piece.name].dtype).is_floating_point is not target.is_floating_point():
        raise RefusedError(f"{tensors.folder}: {piece.name} holds {kind}: quantised weights are not loaded.")
    if shape == tuple(target.shape) and not piece.transposed:
        if not is_sharded(target):
            return tensors.read_into(target, *place)
        if piece.dim:
            return put(target, tensors.read(*place))
        rows = own_rows(target)  # of what lies there
        own(target).copy_(tensors.read(piece.name, piece.start + rows.start, piece.start + rows.stop))
        return None
    found = tensors.read(*place)
    found = with_new_rows(found.T if piece.transposed else found, target.shape, grown)
    if found.shape != target.shape:
        shapes = f"shape {list(shape)}, the model wants {list(target.shape)}"
        raise RefusedError(f"{tensors.folder}: {piece.name} gives {name} the {shapes}.")
    put(target, found)
    return None


def tied_heads(model: Any, pieces: Mapping[str, Any], tensors: StoredTensors) -> list[str]:
    """A head's weight that is stored though it is the embedding's: it must be equal, and is not loaded."""
    is_tied = getattr(model, "lm_head", model) is None and getattr(model, "score", model) is None
    return [HEAD] if is_tied and HEAD in pieces and pieces[HEAD].name in tensors else []


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
