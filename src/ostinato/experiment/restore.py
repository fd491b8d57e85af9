"""The code of a run, written back byte for byte from the run's own bundle and proved by hashing what was written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError, UserError
from ostinato.experiment.git import GitFailed, PrivateRepository, has_git, split_nul
from ostinato.experiment.reading import read_json
from ostinato.experiment.snapshot import open_bundle, write_tree

LINK = b"120000"
EXECUTABLE = b"100755"


@dataclass(frozen=True)
class Restored:
    """What was written: the tree id that both the record and the files on disk have, and how many files."""

    role: str
    tree: str
    files: int
    folder: Path


def code_records(run: Path) -> list[dict[str, Any]]:
    """The run's records of code at its birth, one per root, those that hold none included."""
    try:
        return list(read_json(run / "metadata.json").get("code") or [])
    except (OSError, ValueError) as error:
        raise RefusedError(f"{run / 'metadata.json'} cannot be read: {error}") from None


def record_of(run: Path, role: str) -> dict[str, Any]:
    """The record of a role's code. UserError names the roles there are; RefusedError: it was not captured."""
    found = {str(record.get("role")): record for record in code_records(run)}
    stored = [name for name, record in found.items() if "tree" in record]
    if role not in stored:
        there = f"--role: {', '.join(stored)}" if stored else "This run holds no code"
        problem = found.get(role, {}).get("problem")
        raise UserError(f"{run.name} holds no code of {role}{f' ({problem})' if problem else ''}. {there}.")
    return found[role]


def bundle_of(run: Path, record: dict[str, Any]) -> Path:
    """Where a record's code lies in the run; RefusedError if it does not."""
    bundle = run / "provenance" / record["bundle"]
    if not bundle.is_file():
        ended = "" if record.get("proved") else " (it is written while the run lasts, at the latest at its end)"
        raise RefusedError(f"{bundle} is missing{ended}.")
    return bundle


def restore(run: Path, record: dict[str, Any], target: Path) -> Restored:
    """Write the files of a record's tree into an empty or new folder.

    UserError: `target` is in use, or there is no git. RefusedError: the bundle, or what was written, is not that tree.
    """
    if not has_git():
        raise UserError("restoring code needs the git command. Install git.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is not empty. Give a new or an empty folder.")
    bundle, tree, target = bundle_of(run, record), record["tree"], target.absolute()
    with tempfile.TemporaryDirectory(prefix="ostinato-restore-") as scratch:
        try:
            repository = open_bundle(bundle, tree, Path(scratch) / "git")
            target.mkdir(parents=True, exist_ok=True)
            written = _write_files(repository, tree, target)
            found = write_tree(target, written, repository, Path(scratch))
        except GitFailed as error:
            raise RefusedError(f"{bundle} is damaged: {error}") from None
    if found != tree:
        raise RefusedError(f"{target}: what was written has tree {found} instead of {tree}. Do not use it.")
    return Restored(record["role"], tree, len(written), target)


def _write_files(repository: PrivateRepository, tree: str, target: Path) -> Sequence[bytes]:
    """The raw blobs of a tree; links last, so that no file is ever written through one. Returns the paths on disk."""
    entries = []
    for line in split_nul(repository.git("ls-tree", "-r", "-z", "--full-tree", tree)):
        facts, _, path = line.partition(b"\t")
        mode, kind, name = facts.split()
        if kind != b"blob" or {b"", b".", b"..", b".git"} & set(path.split(b"/")):
            raise GitFailed(f"{os.fsdecode(path)} is nothing that a snapshot holds")
        entries.append((mode, path, name))
    entries.sort(key=lambda entry: entry[0] == LINK)
    root = os.fsencode(target)
    for (mode, path, _), data in zip(entries, _blobs(repository, [name for *_, name in entries]), strict=True):
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        if mode == LINK:
            os.symlink(data, full)
            continue
        with open(full, "xb") as file:
            file.write(data)
        os.chmod(full, 0o755 if mode == EXECUTABLE else 0o644)
    return _on_disk(root)


def _blobs(repository: PrivateRepository, names: Sequence[bytes]) -> list[bytes]:
    """The contents of blobs, in that order."""
    output = repository.git("cat-file", "--batch", data=b"".join(name + b"\n" for name in names))
    found, place = [], 0
    for _ in names:
        end = output.index(b"\n", place)
        size = int(output[place:end].split()[2])
        found.append(output[end + 1 : end + 1 + size])
        place = end + size + 2
    return found


def _on_disk(root: bytes) -> list[bytes]:
    """Every file and link below a folder, relative to it."""
    found = []
    for base, folders, files in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(base, name))]
        found += [os.path.relpath(os.path.join(base, name), root) for name in [*files, *links]]
    return sorted(found)
