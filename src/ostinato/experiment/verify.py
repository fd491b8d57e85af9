"""Whether a run folder is what was written: every hash it holds, every file it names. Changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ostinato.core.errors import OstinatoError
from ostinato.core.frozen import read_frozen, sha256
from ostinato.core.manifest import Damaged, NewerFormat, hash_bytes, read_checkpoint, verify_files
from ostinato.experiment.claims import SEGMENT_NAME, newest_segment
from ostinato.experiment.git import has_git
from ostinato.experiment.imported import is_imported
from ostinato.experiment.reading import read_json, read_or_empty, read_rows, state_of
from ostinato.experiment.snapshot import bundle_problem

Problem = dict[str, str]
CHECKPOINT = re.compile(r"step_\d{8}")


def verify_run(folder: Path) -> list[Problem]:
    """Everything wrong with a run: [{path, problem}], paths below its folder; [] if it is intact."""
    parts = (json_files, _config, _metrics, _checkpoints, _code)
    return [{"path": path, "problem": problem} for part in parts for path, problem in part(folder)]


def json_files(folder: Path) -> Iterator[tuple[str, str]]:
    """(path, problem) of each of the run's JSON files that is missing or cannot be read."""
    for name in ("metadata.json", "status.json", "provenance/config_origins.json"):
        yield from _json_file(folder, name)
    names = sorted(path.name for path in (folder / "provenance").glob("*.json"))
    for name in names:
        if name != "config_origins.json":
            yield from _json_file(folder, f"provenance/{name}")
    for number in range(newest_segment(folder)[0] + 1):
        if f"segment_{number:05d}.json" not in names:
            yield f"provenance/segment_{number:05d}.json", "is missing"
    if not any(SEGMENT_NAME.fullmatch(name) for name in names):
        yield "provenance/segment_00000.json", "is missing"
    if read_or_empty(folder / "metadata.json").get("environment") and "environment.json" not in names:
        yield "provenance/environment.json", "is missing"


def _json_file(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    try:
        read_json(folder / name)
    except FileNotFoundError:
        yield name, "is missing"
    except (OSError, ValueError, OstinatoError) as error:
        yield name, f"cannot be read: {error}"


def _config(folder: Path) -> Iterator[tuple[str, str]]:
    if is_imported(folder):
        return
    try:
        full_hash = sha256(read_frozen(folder / "config.yaml"))  # its components may be elsewhere by now
    except (OSError, ValueError, OstinatoError) as error:
        yield "config.yaml", f"cannot be loaded: {error}"
        return
    recorded = read_or_empty(folder / "metadata.json").get("hashes", {}).get("full")
    if recorded != full_hash:
        yield "config.yaml", f"has hash {full_hash}, but metadata.json says {recorded}"


def _metrics(folder: Path) -> Iterator[tuple[str, str]]:
    problems: list[str] = []
    try:
        read_rows(folder, problems=problems)
    except OSError as error:
        problems.append(f"cannot be read: {error}")
    for problem in problems:
        yield "logs/metrics.jsonl", problem


def _checkpoints(folder: Path) -> Iterator[tuple[str, str]]:
    run_id = read_or_empty(folder / "metadata.json").get("id")
    found = sorted(path for path in (folder / "checkpoints").glob("step_*") if CHECKPOINT.fullmatch(path.name))
    for checkpoint in found:
        path = f"checkpoints/{checkpoint.name}"
        if problem := checkpoint_problem(checkpoint, run_id):
            named = re.match(r"(\S+) (?:is|has|does|cannot)", problem)
            yield (f"{path}/{named[1]}" if named and "." in named[1] else path), problem
    last = read_or_empty(folder / "status.json").get("last_checkpoint")
    if last is not None and not (folder / "checkpoints" / f"step_{last:08d}").is_dir():
        yield f"checkpoints/step_{last:08d}", "is missing, though status.json says it was saved last"


def checkpoint_problem(checkpoint: Path, run_id: str | None) -> str | None:
    """The first thing wrong with a checkpoint, every file and every tensor of it read; None if it is intact."""
    try:
        manifest = read_checkpoint(checkpoint)
        verify_files(checkpoint, manifest)
        problem = _tensor_problem(checkpoint, manifest)
    except (Damaged, NewerFormat, OSError) as error:
        return str(error)
    except (KeyError, TypeError, ValueError) as error:
        return f"manifest.json lacks what it must have: {error!r}"
    if problem is None and run_id and manifest.get("run", {}).get("id") != run_id:
        problem = f"is of run {manifest.get('run', {}).get('id')}, not of {run_id}"
    return problem


def _tensor_problem(checkpoint: Path, manifest: dict[str, Any]) -> str | None:
    """The first tensor whose bytes are not those of its hash (read from the safetensors files without torch)."""
    by_file: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name, entry in manifest.get("tensors", {}).items():
        by_file.setdefault(entry["file"], []).append((name, entry))
    for file_name, entries in by_file.items():
        with open(checkpoint / file_name, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            for name, entry in entries:
                stored = header.get(name.partition("/")[2])
                if stored is None:
                    return f"{file_name} does not hold tensor {name}"
                begin, end = stored["data_offsets"]
                file.seek(8 + size + begin)
                if stored["dtype"] != entry["dtype"] or list(stored["shape"]) != list(entry["shape"]):
                    return f"{file_name} does not agree with the manifest on dtype and shape of {name}"
                if hash_bytes(file.read(end - begin)) != entry["xxh3"]:
                    return f"{file_name} does not match the hash of tensor {name}"
    return None


def _code(folder: Path) -> Iterator[tuple[str, str]]:
    records = list(read_or_empty(folder / "metadata.json").get("code") or [])
    for path in sorted((folder / "provenance").glob("segment_*.json")):
        records += read_or_empty(path).get("code_roots") or []
    ended = state_of(folder) not in ("created", "running")
    for tree, bundle in {(r["tree"], r["bundle"]): None for r in records if "bundle" in r}:
        path = folder / "provenance" / bundle
        if not path.is_file():
            if ended and any(r.get("proved") for r in records if r.get("tree") == tree):
                yield f"provenance/{bundle}", "is missing"
        elif has_git() and (problem := bundle_problem(path, tree)):
            yield f"provenance/{bundle}", problem
