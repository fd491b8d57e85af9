"""How a run folder comes to be: made complete under a private name, then renamed, so that of many starts one wins."""

from __future__ import annotations

import dataclasses
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ostinato.core.config import Config
from ostinato.core.errors import UserError
from ostinato.core.manifest import fsync_folder, write_json
from ostinato.experiment.claims import segment_path, this_process
from ostinato.experiment.naming import check_name, exists_message, made_up_names
from ostinato.experiment.reading import read_json
from ostinato.experiment.secrets import MASK, is_secret_name, masked, masked_command, refuse_secrets
from ostinato.experiment.status import utc_now


def create_folder(config: Config, command: Sequence[str], overrides: Iterable[str], extra: Mapping[str, Any]) -> Path:
    """Create the folder of a new run; raises UserError, with nothing left behind, if it cannot or the name is taken."""
    refuse_secrets(config.to_dict())
    root = Path(config.experiment.output_root)
    name = config.experiment.name
    if name is not None:
        check_name(name)
        if os.path.lexists(root / name) and not _is_empty(root / name):
            raise UserError(exists_message(root / name, command))
    free = (made_up for made_up in made_up_names(config) if not os.path.lexists(root / made_up))
    names = free if name is None else iter([name])
    new = root / f".new-{uuid.uuid4().hex}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        _fill(new, config, command, overrides, extra)
        return _rename(new, root, names, command)
    except OSError as error:
        raise UserError(
            f"{error.filename or root}: a run cannot be created here: {error.strerror}. "
            "Make room or give another place: -o experiment.output_root=DIR."
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _rename(new: Path, root: Path, names: Iterator[str], command: Sequence[str]) -> Path:
    """Give the finished folder its name, the first one that is free; renaming onto a folder with content fails."""
    folder = None
    for name in names:
        folder = root / name
        write_json(new / "metadata.json", {**read_json(new / "metadata.json"), "name": name})
        try:
            os.rename(new, folder)
        except OSError:
            if not os.path.lexists(folder):
                raise
            continue
        fsync_folder(root)
        return folder
    assert folder is not None
    raise UserError(exists_message(folder, command))


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())


def _fill(
    new: Path, config: Config, command: Sequence[str], overrides: Iterable[str], extra: Mapping[str, Any]
) -> None:
    for folder in ("provenance/code", "checkpoints", "logs", "outputs/samples", "outputs/eval"):
        (new / folder).mkdir(parents=True)
    frozen = new / "config.yaml"
    with frozen.open("x", encoding="utf-8", newline="") as file:
        file.write(config.to_yaml())
        file.flush()
        os.fsync(file.fileno())
    frozen.chmod(0o444)
    chains = {key: MASK if is_secret_name(key) else plain(chain) for key, chain in config.origins.items()}
    origins = {"version": 1, "origins": chains}
    write_json(new / "provenance" / "config_origins.json", origins, durable=False)
    write_json(new / "metadata.json", birth_record(config, command) | dict(extra), durable=False)
    status = {"version": 1, "state": "created", "segment": 0, "step": 0, "total_steps": config.training.total_steps}
    write_json(new / "status.json", status | {"last_checkpoint": None, "heartbeat": 0, "updated": utc_now()})
    write_json(segment_path(new, 0), segment_record(0, command, overrides))


def birth_record(config: Config, command: Sequence[str]) -> dict[str, Any]:
    """`metadata.json` of a run that begins now."""
    return base_record(command) | {
        "hashes": {"full": config.full_hash, "science": config.science_hash, "group": config.group_hash},
        "seed": config.experiment.seed,
        "algorithm": config.algorithm.name,
        "model": config.model.name,
        "numerics": config.training.numerics,
        "tags": list(config.experiment.tags),
        "notes": config.experiment.notes,
    }


def base_record(command: Sequence[str]) -> dict[str, Any]:
    """The same of a run of which nothing is known but when and how it began."""
    now = datetime.now(UTC)
    return {
        "version": 1,
        "id": f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}",
        "name": None,
        "created": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "ostinato": metadata.version("ostinato"),
        "command": masked_command(command),
        "cwd": masked(os.getcwd()),
        "hashes": {},
        "seed": None,
        "algorithm": None,
        "model": None,
        "numerics": None,
        "tags": [],
        "notes": "",
        "code": [],
        "data": None,
        "tokenizer": None,
        "environment": None,
        "hardware": None,
        "lineage": {"init_from": None, "reproduces": None, "sweep": None},
    }


def segment_record(number: int, command: Sequence[str], overrides: Iterable[str], **fields: Any) -> dict[str, Any]:
    """`segment_<n>.json` of this process."""
    return {
        "version": 1,
        "segment": number,
        **this_process(),
        "started": utc_now(),
        "command": masked_command(command),
        "world": {},
        "resumed_from": None,
        "code": None,
        "environment": None,
        "overrides": [masked(override) for override in overrides],
        **fields,
    }


def plain(value: Any) -> Any:
    """Records, mappings, paths as JSON's types; texts without secrets."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return masked(str(value))
