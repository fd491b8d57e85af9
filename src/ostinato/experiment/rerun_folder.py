"""The folder of a rerun: its name, and for one that begins at a checkpoint of the original all that a resume needs."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError, UserError
from ostinato.core.manifest import Damaged, NewerFormat, fsync_folder, read_checkpoint, seal, write_json
from ostinato.experiment.claims import segment_path
from ostinato.experiment.creation import segment_record
from ostinato.experiment.differences import metadata_of
from ostinato.experiment.reading import read_or_empty
from ostinato.experiment.status import utc_now


def claim_name(run: Path) -> tuple[Path, int]:
    """The folder `<name>-repro-<n>` of the first n that is free, made (empty, so that a run can become it); and n."""
    number = 1
    while True:
        folder = run.parent / f"{run.name}-repro-{number}"
        try:
            folder.mkdir()
            return folder, number
        except FileExistsError:
            number += 1
        except OSError as error:
            raise UserError(f"{folder}: a rerun cannot be created here: {error.strerror}.") from None


def begin_at_checkpoint(run: Path, step: int, folder: Path, command: Sequence[str]) -> None:
    """Make a run that a resume continues from the original's checkpoint of `step`; UserError if there is none."""
    source = run / "checkpoints" / f"step_{step:08d}"
    if not source.is_dir():
        there = ", ".join(str(int(p.name[5:])) for p in sorted((run / "checkpoints").glob("step_????????"))) or "none"
        raise UserError(f"--from-checkpoint {step}: {run.name} has no checkpoint of that step; there are: {there}.")
    try:
        manifest = read_checkpoint(source)
    except (Damaged, NewerFormat) as problem:
        raise RefusedError(f"{source}: {problem}") from None
    new = run.parent / f".new-{uuid.uuid4().hex}"
    try:
        _fill(new, run, source, manifest, folder.name, command)
        os.rename(new, folder)
        fsync_folder(run.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _fill(new: Path, run: Path, source: Path, manifest: dict[str, Any], name: str, command: Sequence[str]) -> None:
    for folder in ("provenance/code", "checkpoints", "logs", "outputs/samples", "outputs/eval"):
        (new / folder).mkdir(parents=True)
    metadata = metadata_of(run)
    identity = {"id": f"{utc_now().replace('-', '').replace(':', '')}-{uuid.uuid4().hex[:8]}", "name": name}
    lineage = {**(metadata.get("lineage") or {}), "reproduces": origin_of(metadata), "sweep": None}
    born = {"created": utc_now(), "command": list(command), "tags": [], "notes": "", "lineage": lineage}
    write_json(new / "metadata.json", {**metadata, **identity, **born})
    first = read_or_empty(segment_path(run, 0))
    kept = {field: first[field] for field in ("code", "environment", "environment_file", "world") if field in first}
    write_json(segment_path(new, 0), segment_record(0, command, [], **kept))
    shutil.copy2(run / "config.yaml", new / "config.yaml")
    for path in ("config_origins.json", "environment.json"):
        shutil.copyfile(run / "provenance" / path, new / "provenance" / path)
    for bundle in (run / "provenance" / "code").glob("*.bundle"):
        _link_or_copy(bundle, new / "provenance" / "code" / bundle.name)
    target = new / "checkpoints" / source.name
    shutil.copytree(source, target, copy_function=_link_or_copy, ignore=shutil.ignore_patterns("manifest.json"))
    write_json(target / "manifest.json", seal({**manifest, "run": identity}))
    status = {"version": 1, "state": "preempted", "segment": 0, "step": manifest["step"], "heartbeat": 0}
    status |= {"total_steps": read_or_empty(run / "status.json").get("total_steps"), "updated": utc_now()}
    status |= {"last_checkpoint": manifest["step"], "reason": "to be continued by a reproduction", "signal": None}
    write_json(new / "status.json", {**status, "exit_code": None, "error": None})


def adopt_record(run: Path, rerun: Path, *, code: bool) -> None:
    """Say in a finished rerun what it reproduces. With `code`, what it ran is on record as in the original: the same
    trees at their own places, not at those of the restored copy, which is gone."""
    original, metadata = metadata_of(run), metadata_of(rerun)
    metadata["lineage"] = {**(metadata.get("lineage") or {}), "reproduces": origin_of(original)}
    if code:
        metadata |= {"code": original["code"], "cwd": original["cwd"]}
        for bundle in (run / "provenance" / "code").glob("*.bundle"):
            if not (target := rerun / "provenance" / "code" / bundle.name).exists():
                _link_or_copy(bundle, target)
    write_json(rerun / "metadata.json", metadata)


def origin_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What `lineage.reproduces` of a rerun says."""
    return {"run": metadata.get("name"), "id": metadata.get("id")}


def _link_or_copy(source: Any, target: Any) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
