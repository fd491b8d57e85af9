"""The code as it is on disk, complete and provable: one git tree of the raw bytes, a bundle, and a check of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostinato.core.manifest import fsync_folder
from ostinato.experiment.claims import process_start
from ostinato.experiment.code_files import list_code
from ostinato.experiment.git import GitFailed, PrivateRepository, ask, quoted, work_tree
from ostinato.experiment.secrets import masked

REF = "refs/ostinato/code"
SCRATCH = "ostinato-code-"
ABANDONED_SECONDS = 3600


@dataclass
class Snapshot:
    """The tree of one root, its blobs in a repository of ours; `record` is its entry in `metadata.json`."""

    repository: PrivateRepository
    record: dict[str, Any]
    scratch: Path

    def discard(self) -> None:
        """Remove the temporary objects."""
        shutil.rmtree(self.scratch, ignore_errors=True)


def take(root: Path, role: str, excluded: Path | None = None) -> Snapshot:
    """Hash the code below `root` (its work tree, or outside git the folder), without what lies below `excluded`."""
    top = work_tree(root)
    scratch = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-"))
    try:
        repository = (
            PrivateRepository(scratch / "git", top.form, top.objects) if top else PrivateRepository(scratch / "git")
        )
        place = top.root if top else root
        listing = list_code(place, None if top else repository, excluded)
        tree = write_tree(place, list(listing.files), repository, scratch)
        record: dict[str, Any] = {"role": role, "kind": "git" if top else "folder", "root": str(place)}
        record |= _where_in_history(place, tree) if top else {}
        record |= {"tree": tree, "bundle": f"code/{tree}.bundle", "files": len(listing.files)}
        record |= {"skipped": listing.skipped, "proved": False}
        return Snapshot(repository, record, scratch)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def remove_abandoned_scratch() -> None:
    """Remove what killed processes left in the temporary folder."""
    for scratch in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*-*"):
        pid = scratch.name.removeprefix(SCRATCH).partition("-")[0]
        with contextlib.suppress(OSError):
            old = time.time() - scratch.stat().st_mtime > ABANDONED_SECONDS
            if old and pid.isdigit() and process_start(int(pid)) is None:
                shutil.rmtree(scratch, ignore_errors=True)


def _where_in_history(root: Path, tree: str) -> dict[str, Any]:
    """Commit, branch, remote, and whether the tree is not the commit's."""
    answer = ask(root, "rev-parse", "HEAD", "HEAD^{tree}", "--abbrev-ref", "HEAD")
    commit, committed, branch = answer.split("\n") if answer and answer.count("\n") == 2 else (None, None, None)
    remote = ask(root, "config", "--get", "remote.origin.url")
    return {"commit": commit, "branch": branch, "remote": remote and masked(remote), "dirty": committed != tree}


def write_tree(root: Path, paths: Sequence[bytes], repository: PrivateRepository, scratch: Path) -> str:
    """Write the blobs of the bytes on disk and one tree of them; its id."""
    modes: list[bytes] = []
    sources: list[bytes] = []
    for number, path in enumerate(paths):
        full = os.path.join(os.fsencode(root), path)
        if os.path.islink(full):  # hashing would follow it: hash its text from a file
            copy = scratch / f"link-{number}"
            copy.write_bytes(os.fsencode(os.readlink(full)))
            modes.append(b"120000")
            sources.append(os.fsencode(copy))
        else:
            modes.append(b"100755" if os.stat(full).st_mode & stat.S_IXUSR else b"100644")
            sources.append(full)
    stdin = b"".join(quoted(source) + b"\n" for source in sources)
    hashes = repository.git("hash-object", "-w", "--no-filters", "--stdin-paths", data=stdin).split()
    entries = zip(modes, hashes, paths, strict=True)
    index = b"".join(mode + b" " + name + b"\t" + path + b"\0" for mode, name, path in entries)
    repository.git("update-index", "-z", "--index-info", data=index)
    return repository.line("write-tree")


def write_bundle(snapshot: Snapshot, target: Path) -> None:
    """The bundle of a snapshot's one commit, under its final name only when whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".new-{uuid.uuid4().hex}.bundle")
    try:
        tree = snapshot.record["tree"]
        commit = snapshot.repository.line("commit-tree", tree, "-m", "code of an ostinato run")
        snapshot.repository.git("update-ref", REF, commit)
        snapshot.repository.git("bundle", "create", "--quiet", str(temporary), REF)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o444)
        os.replace(temporary, target)
        fsync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def open_bundle(bundle: Path, tree: str, folder: Path) -> PrivateRepository:
    """A bundle's objects, each checked by git, in an empty repository at `folder`; GitFailed if it is not of `tree`."""
    repository = PrivateRepository(folder, "sha256" if len(tree) == 64 else "sha1")
    repository.git("fetch", "--quiet", "--no-tags", str(bundle.resolve()), f"{REF}:{REF}")
    if (found := repository.line("rev-parse", f"{REF}^{{tree}}")) != tree:
        raise GitFailed(f"holds tree {found} instead of {tree}")
    return repository


def bundle_problem(bundle: Path, tree: str) -> str | None:
    """None if the bundle, fetched into an empty repository, gives exactly that tree; else what is wrong."""
    with tempfile.TemporaryDirectory(prefix="ostinato-proof-") as folder:
        try:
            open_bundle(bundle, tree, Path(folder) / "git")
        except (GitFailed, OSError) as error:
            return str(error)
    return None
