"""The code of a sweep as it was when it was submitted: captured, proved, restored once, and what runs from there."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError, UserError
from ostinato.experiment.git import GitFailed, has_git, split_nul
from ostinato.experiment.provenance import INSTALLED, Capture, code_roots, keep_bundle, link_or_copy, module_folder
from ostinato.experiment.reading import read_json
from ostinato.experiment.restore import bundle_of, restore
from ostinato.experiment.snapshot import open_bundle, take, write_tree

RECORD = "submission.json"
NOT_LINKED = (".git", "__pycache__")


def capture_code(folder: Path, plugins: Sequence[str], output_root: Path) -> dict[str, Any]:
    """Capture all code that a run from here would import, into `folder`, a sweep's.

    Returns {cwd, project, plugins, code}: code is as in `metadata.json`, with `folder`, where it is restored.
    """
    if not has_git():
        raise UserError("a sweep keeps its code with the git command, which is not there. Install git.")
    records = []
    for number, (role, root) in enumerate(code_roots(plugins)):
        if root is None:
            records.append({"role": role, "kind": "none", "root": str(Path.cwd())})
            continue
        snapshot = take(root, role, output_root)
        try:
            keep_bundle(snapshot, folder / "provenance", output_root / ".code")
        finally:
            snapshot.discard()
        records.append({**snapshot.record, "folder": f"code/{number}-{role.rpartition(':')[2]}"})
    return {"cwd": str(Path.cwd()), "project": project_root(), "plugins": list(plugins), "code": records}


def project_root() -> str | None:
    """The project that the working directory is in."""
    root = code_roots(())[0][1]
    return str(root) if root else None


def restore_code(folder: Path, submission: Mapping[str, Any]) -> None:
    """Write the captured code back, and link beside it what is no code: what git ignores, such as data."""
    for record in submission["code"]:
        if "tree" in record:
            target = folder / record["folder"]
            restore(folder, record, target)
            link_the_rest(Path(record["root"]), target)


def check_restored(folder: Path, submission: Mapping[str, Any]) -> None:
    """Raise RefusedError if the restored code is no longer that of the submission, as its hashes tell."""
    for record in submission["code"]:
        if "tree" not in record:
            continue
        target, tree = folder / record["folder"], record["tree"]
        with tempfile.TemporaryDirectory(prefix="ostinato-proof-") as scratch:
            try:
                repository = open_bundle(bundle_of(folder, record), tree, Path(scratch) / "git")
                lines = split_nul(repository.git("ls-tree", "-r", "-z", "--full-tree", tree))
                paths = [line.partition(b"\t")[2] for line in lines]
                problem = None if write_tree(target, paths, repository, Path(scratch)) == tree else "a file was changed"
            except (GitFailed, OSError) as error:
                problem = str(error)
        if problem:
            raise RefusedError(
                f"{target} is not the code that was submitted: {problem}. Submit under another file name."
            )


def link_the_rest(original: Path, restored: Path) -> None:
    """Link every entry of a folder that its restored copy lacks, also deeper down."""
    for entry in os.scandir(original):
        target = restored / entry.name
        if entry.name in NOT_LINKED:
            continue
        if not os.path.lexists(target):
            target.symlink_to(entry.path, entry.is_dir())
        elif entry.is_dir(follow_symlinks=False) and target.is_dir() and not target.is_symlink():
            link_the_rest(Path(entry.path), target)


def read_submission(path: Path) -> dict[str, Any]:
    """The record of a submission; RefusedError if it is damaged."""
    try:
        return read_json(path / RECORD)
    except (OSError, ValueError) as error:
        raise RefusedError(f"{path / RECORD} cannot be read: {error}") from error


class Place:
    """Where and with which paths the children of a sweep run: in the restored code, not in the tree of today."""

    def __init__(self, folder: Path, submission: Mapping[str, Any]) -> None:
        self.submitted_from = Path(submission["cwd"])
        self.project: str | None = submission["project"]
        self._restored = [
            (Path(record["root"]), folder.absolute() / record["folder"])
            for record in submission["code"]
            if "tree" in record
        ]
        self._plugins: Sequence[str] = submission["plugins"]

    @property
    def cwd(self) -> Path:
        """The working directory at submission, as restored; itself if it was in no project."""
        return self._moved(self.submitted_from) or self.submitted_from

    def environ(self) -> dict[str, str]:
        """The variables of this process, with the restored code first on Python's path."""
        modules = [found.parent for name in ("ostinato", *self._plugins) if (found := module_folder(name))]
        paths = [Path(entry).resolve() for entry in sys.path if os.path.isdir(entry)]
        moved = [str(target) for path in (*modules, *paths) if (target := self._moved(path))]
        given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
        kept = [str(Path(entry).resolve()) for entry in given if not self._moved(Path(entry).resolve())]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys([*moved, *kept]))}

    def _moved(self, path: Path) -> Path | None:
        if set(path.parts) & set(INSTALLED):
            return None
        for root, target in self._restored:
            if path.is_relative_to(root):
                return target / path.relative_to(root)
        return next((path for _, target in self._restored if path.is_relative_to(target)), None)


class SubmittedCode(Capture):
    """Records for a child of a sweep the code that it runs: that of the submission."""

    def __init__(self, folder: Path) -> None:
        submission = read_submission(folder)
        self._sweep, self._submitted, self._cwd = folder, submission["code"], submission["cwd"]
        self._lineage = {"name": folder.name.removesuffix(".sweep"), "id": submission["id"]}
        super().__init__((), folder.parent)

    def _take(self) -> None:
        self.code = [{k: v for k, v in record.items() if k != "folder"} for record in self._submitted]

    def facts(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """The sweep in the lineage, and the submission's working directory, of which the child's is a copy."""
        return {**known, "cwd": self._cwd, "lineage": {**known.get("lineage", {}), "sweep": self._lineage}}

    def _store(self) -> None:
        for record in self.code:
            if "tree" in record:
                own = self._records.folder / "provenance" / record["bundle"]
                own.parent.mkdir(exist_ok=True)
                link_or_copy(self._sweep / "provenance" / record["bundle"], own)
