"""Who may go on with a run, and with which config: the claim of the next segment."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ostinato.core.config import Config, load_config
from ostinato.core.errors import OstinatoError, RefusedError, UserError
from ostinato.core.fields import fields_of
from ostinato.core.schema import Sections
from ostinato.experiment.claims import claim, is_alive, newest_segment
from ostinato.experiment.creation import plain, segment_record
from ostinato.experiment.reading import read_json, read_or_empty
from ostinato.experiment.secrets import leaves, refuse_secrets
from ostinato.experiment.status import ENDED

log = logging.getLogger(__name__)


class Completed(OstinatoError):
    """The run is completed: nothing to do."""

    exit_code = 0


def claim_next(
    folder: Path, requested: Config | None, command: Sequence[str], overrides: Iterable[str]
) -> tuple[Config, int]:
    """The config to go on with, and the number of the segment that is now this process's."""
    metadata = read_metadata(folder)
    status = read_or_empty(folder / "status.json")
    if status.get("state") == "completed":
        again = "To run it again give another --name, or put it aside with `ostinato runs rm`."
        raise Completed(f"{metadata['name']} is completed ({folder}): nothing to do. {again}")
    config = load_config(folder / "config.yaml")
    changed: list[dict[str, Any]] = []
    if requested is not None:
        refuse_secrets(requested.to_dict())
        changed = check_same_question(config, requested, metadata["name"])
        config = requested
    number, owner = newest_segment(folder)
    released = status.get("state") in ENDED and status.get("segment") == number
    if not released and is_alive(folder, number, owner):
        raise UserError(alive_message(folder, owner))
    record = segment_record(number + 1, command, overrides, config_changes=plain(changed))
    if not claim(folder, number + 1, record):
        raise UserError(alive_message(folder, newest_segment(folder)[1]))
    for change in changed:
        log.warning("%s: %s now, %s in the frozen config", change["key"], change["new"], change["old"])
    return config, number + 1


def read_metadata(folder: Path) -> dict[str, Any]:
    """`metadata.json` of a run; RefusedError if it is missing or damaged."""
    try:
        return read_json(folder / "metadata.json")
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"{folder / 'metadata.json'} cannot be read: {error}. See `ostinato runs verify`."
        ) from error


def alive_message(folder: Path, owner: dict[str, Any]) -> str:
    """Who owns the run, and since when it was last heard of."""
    try:
        seconds = max(0.0, time.time() - (folder / "status.json").stat().st_mtime)
        heard = f"last heartbeat {seconds:.0f} s ago"
    except OSError:
        heard = "no heartbeat yet"
    return (
        f"{folder.name} is running: process {owner.get('pid')} on {owner.get('host')}, {heard} ({folder}).\n"
        f"  stop it        kill {owner.get('pid')}          (it saves and ends; then --resume)\n"
        "  start another  --name NAME"
    )


def check_same_question(frozen: Config, requested: Config, name: str) -> list[dict[str, Any]]:
    """What differs outside the science hash: [{key, old, new}]; UserError if anything inside differs."""
    if frozen.full_hash == requested.full_hash:
        return []
    old, new = dict(leaves(frozen.to_dict())), dict(leaves(requested.to_dict()))
    changes: list[dict[str, Any]] = [
        {"key": key, "old": old.get(key), "new": new.get(key)}
        for key in [*old, *(key for key in new if key not in old)]
        if (key in old) != (key in new) or old[key] != new[key]
    ]
    if frozen.science_hash == requested.science_hash:
        return [change for change in changes if change["key"] != "experiment.name"]
    inside = [change for change in changes if is_science(change["key"])]
    lines = [f"  {change['key']}: {change['new']}, but the run has {change['old']}" for change in inside]
    raise UserError(
        f"{name} asked another question; a resume cannot change it:\n" + "\n".join(lines) + "\n"
        f"Leave the config out to go on as before, or start a new run from its weights: "
        f"--name NAME -o model.init_from=run:{name}."
    )


def is_science(key: str) -> bool:
    """Whether a leaf is part of the science hash."""
    section: Any = Sections
    for part in key.split("."):
        field = fields_of(section).get(part)
        if field is None:
            return True  # an option of a component, or a label
        if not field.science:
            return False
        if field.type.head != "struct":
            return True
        section = field.type.args[0]
    return True
