"""Which files differ between the code of two runs, and the patch between them: from their own bundles, by git."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from ostinato.experiment.git import GitFailed, PrivateRepository, has_git, split_nul
from ostinato.experiment.restore import code_records
from ostinato.experiment.snapshot import REF, open_bundle

OTHER = "refs/ostinato/other"
CHANGES = {b"A": "added", b"D": "removed", b"M": "changed", b"T": "changed"}
PATCH = ("--binary", "--no-renames", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")


def code_differences(a: Path, b: Path, *, patch: bool = False) -> list[dict[str, Any]]:
    """Each role whose code differs: {role, a, b (tree ids), files: [{path, change}], patch, problem}.

    `problem` says why files cannot be compared: a role that one run lacks, a bundle that is missing or damaged.
    """
    left, right = ({record["role"]: record for record in code_records(run) if "role" in record} for run in (a, b))
    found = []
    for role in dict.fromkeys([*left, *right]):
        trees = [side.get(role, {}).get("tree") for side in (left, right)]
        if trees[0] == trees[1]:
            continue
        entry: dict[str, Any] = {
            "role": role,
            "a": trees[0],
            "b": trees[1],
            "files": [],
            "patch": None,
            "problem": None,
        }
        if None in trees:
            entry["problem"] = f"the code of {role} is not in {(a if trees[0] is None else b).name}"
        else:
            bundles = [run / "provenance" / side[role]["bundle"] for run, side in ((a, left), (b, right))]
            _compare(entry, bundles[0], bundles[1], patch)
        found.append(entry)
    return found


def _compare(entry: dict[str, Any], a: Path, b: Path, patch: bool) -> None:
    if not has_git():
        entry["problem"] = "comparing files needs the git command"
        return
    with tempfile.TemporaryDirectory(prefix="ostinato-diff-") as folder:
        try:
            repository = open_bundle(a, entry["a"], Path(folder) / "git")
            repository.git("fetch", "--quiet", "--no-tags", str(b.resolve()), f"{REF}:{OTHER}")
            entry["files"] = changed_files(repository, entry["a"], entry["b"])
            if patch:
                text = repository.git("diff-tree", "-r", "-p", *PATCH, entry["a"], entry["b"])
                entry["patch"] = text.decode(errors="backslashreplace")
        except (GitFailed, OSError) as error:
            entry["problem"] = str(error)


def changed_files(repository: PrivateRepository, a: str, b: str) -> list[dict[str, str]]:
    """The files that differ between two trees: [{path, change}]."""
    parts = split_nul(repository.git("diff-tree", "-r", "-z", "--no-renames", "--name-status", a, b))
    return [
        {"path": os.fsdecode(path).encode(errors="backslashreplace").decode(), "change": CHANGES.get(status, "changed")}
        for status, path in zip(parts[::2], parts[1::2], strict=True)
    ]
