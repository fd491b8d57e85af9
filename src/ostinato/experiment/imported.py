"""A model from elsewhere as a run that trained nothing: a checkpoint of step 0, and where it came from."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ostinato.core.errors import UserError
from ostinato.core.manifest import fsync_folder, write_json
from ostinato.experiment.claims import segment_path
from ostinato.experiment.creation import base_record, segment_record
from ostinato.experiment.naming import check_name
from ostinato.experiment.reading import read_or_empty
from ostinato.experiment.status import utc_now

FOLDERS = ("provenance/code", "checkpoints", "logs", "outputs/samples", "outputs/eval")


def create_imported(
    root: Path,
    name: str,
    facts: Mapping[str, Any],
    write_checkpoint: Callable[[Path, Mapping[str, str]], None],
    command: Sequence[str],
) -> Path:
    """The folder `root/name`, whole or not at all. `facts` go into metadata.json; `write_checkpoint(checkpoints, run)`
    writes the weights. There is no config.yaml: nothing ran. UserError: the name is taken, or the disk refuses."""
    check_free(root, name)
    folder = root / name
    new = root / f".new-{uuid.uuid4().hex}"
    record = {**base_record(command), "name": name, "algorithm": "imported", **facts}
    status = {"version": 1, "state": "completed", "segment": 0, "step": 0, "total_steps": 0, "last_checkpoint": 0}
    try:
        for part in FOLDERS:
            (new / part).mkdir(parents=True)
        write_checkpoint(new / "checkpoints", {"id": record["id"], "name": name})
        write_json(new / "metadata.json", record)
        write_json(new / "provenance" / "config_origins.json", {"version": 1, "origins": {}})
        write_json(segment_path(new, 0), segment_record(0, command, ()))
        write_json(new / "status.json", {**status, "heartbeat": 0, "updated": utc_now()})
        os.rename(new, folder)
        fsync_folder(root)
    except OSError as error:
        raise UserError(f"{folder}: it cannot be made here: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def check_free(root: Path, name: str) -> None:
    """Raise UserError for a name that a run may not have, or that is taken."""
    check_name(name)
    if os.path.lexists(root / name):
        raise UserError(f"{root / name} exists. Choose another name: --name NAME.")


def is_imported(folder: Path) -> bool:
    """Whether a run is only a model that was brought in."""
    return bool(read_or_empty(folder / "metadata.json").get("imported"))
