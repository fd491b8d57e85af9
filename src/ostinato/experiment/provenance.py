"""What a run was made of: its code and environment, taken by a background thread beside everything else at start."""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ostinato.experiment.git import GitFailed, has_git, work_tree
from ostinato.experiment.records import Records
from ostinato.experiment.snapshot import Snapshot, bundle_problem, remove_abandoned_scratch, take, write_bundle

log = logging.getLogger(__name__)
INSTALLED = ("site-packages", "dist-packages")


def code_roots(plugins: Sequence[str]) -> list[tuple[str, Path | None]]:
    """(role, folder) of all code that a wheel does not name: the project, plugins outside it, ostinato's checkout."""
    here = Path.cwd()
    project = _root(here)
    roots: list[tuple[str, Path | None]] = [("project", project)]
    for role, module in [*((f"plugin:{name}", name) for name in plugins), ("ostinato", "ostinato")]:
        folder = module_folder(module)
        if folder is None or set(folder.parts) & set(INSTALLED):
            continue
        root = _root(folder) or folder
        if not any(known and root.is_relative_to(known) for _, known in roots):
            roots.append((role, root))
    return roots


def _root(folder: Path) -> Path | None:
    if top := work_tree(folder) if has_git() else None:
        return top.root
    return next((parent for parent in (folder, *folder.parents) if (parent / "pyproject.toml").is_file()), None)


def module_folder(name: str) -> Path | None:
    """Where a top-level module or package lies."""
    try:
        spec = importlib.util.find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin:
        found = Path.cwd() / name
        return found.resolve() if found.is_dir() else None
    return Path(spec.origin).resolve().parent


class Capture(threading.Thread):
    """Hashes the code and collects the environment; given a run's records by `record_in`, stores the code there.

    May be started before there is a run folder, and beside the import of torch. Never raises: what cannot be
    captured is a warning, and an entry in the record.
    """

    def __init__(self, plugins: Sequence[str], output_root: Path, *, code: bool = True) -> None:
        super().__init__(name="ostinato-provenance", daemon=True)
        self._roots = code_roots if code else (lambda plugins: [])
        self._plugins, self._excluded = tuple(plugins), Path(output_root).resolve()
        self._hashed, self._given = threading.Event(), threading.Event()
        self._snapshots: list[Snapshot] = []
        self._records: Any = None
        self.code: list[dict[str, Any]] = []
        atexit.register(self._discard)
        self.start()

    def run(self) -> None:
        try:
            self._take()
        except Exception as error:
            log.warning("the code could not be captured: %s", error)
            self.code.append({"role": "project", "kind": "none", "problem": str(error)})
        self._hashed.set()
        self._given.wait()
        try:
            self._records.set_code(self.code)
            self._store()
        except Exception as error:
            log.warning("the code could not be stored: %s", error)
        finally:
            self._discard()
            remove_abandoned_scratch()

    def _take(self) -> None:
        for role, root in self._roots(self._plugins):
            if root is None or not has_git():
                entry = {"role": role, "kind": "none", "root": str(root or Path.cwd())}
                self.code.append(entry | ({"problem": "no git command"} if root else {}))
                continue
            snapshot = self._take_one(role, root)
            self._snapshots.append(snapshot)
            self.code.append(snapshot.record)
            for entry in snapshot.record["skipped"]:
                size = f"{entry['bytes'] / 1024**2:.1f} MB"
                log.warning("not captured: %s (%s, %s); ignore it or commit it", entry["path"], size, entry["reason"])

    def _take_one(self, role: str, root: Path) -> Snapshot:
        try:
            return take(root, role, self._excluded)
        except (GitFailed, OSError):  # a file vanished between being listed and being read
            return take(root, role, self._excluded)

    def _store(self) -> None:
        """The bundles, and in the records whether they are proved."""
        folder = self._records.folder.resolve()  # git runs elsewhere
        for snapshot in self._snapshots:
            keep_bundle(snapshot, folder / "provenance", folder.parent / ".code")
            self._records.set_code(self.code)

    def _discard(self) -> None:
        for snapshot in self._snapshots:
            snapshot.discard()
        atexit.unregister(self._discard)

    def facts(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """What the run's `metadata.json` says at birth beside what is `known`."""
        return dict(known)

    def record_in(self, records: Records) -> None:
        """Write into this run from now on."""
        self._records = records
        self._given.set()

    def wait_hashed(self, seconds: float = 60.0) -> bool:
        """Wait until later edits of the code no longer matter."""
        return self._hashed.wait(seconds)

    @property
    def tree(self) -> str | None:
        """The id of the project's code, once hashed."""
        return next((entry["tree"] for entry in self.code if "tree" in entry), None)


def keep_bundle(snapshot: Snapshot, place: Path, shared_folder: Path) -> None:
    """The bundle, shared by all runs of a root, linked into `place`, and proved: its record says so."""
    record = snapshot.record
    shared, own = shared_folder / f"{record['tree']}.bundle", place / record["bundle"]
    own.parent.mkdir(parents=True, exist_ok=True)
    problem = bundle_problem(link_or_copy(shared, own), record["tree"]) if shared.is_file() else "not there yet"
    if problem:
        write_bundle(snapshot, shared)
        problem = bundle_problem(link_or_copy(shared, own), record["tree"])
    record["proved"] = problem is None
    if problem:
        log.warning("the code of %s is stored but not proved: %s", record["root"], problem)


def link_or_copy(shared: Path, own: Path) -> Path:
    """The shared bundle as the run's own file: a link, or a copy where there are none."""
    own.unlink(missing_ok=True)
    try:
        os.link(shared, own)
    except OSError:
        shutil.copyfile(shared, own)
    return own
