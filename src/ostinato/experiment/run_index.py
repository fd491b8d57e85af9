"""What was read of run folders before, in the user's cache folder: by path, mtime, size and inode of the files.

Only a cache: deleted, damaged, locked or not writable, it changes nothing but the time that reading takes. It is never
on the runs' disk, which may be a network's.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

VERSION = 1  # of what is stored: another one begins anew
WAIT_SECONDS = 0.1  # for another process that writes it
BEGIN = f"""
DROP TABLE IF EXISTS entries;
CREATE TABLE entries (root, part, run, signature, value, PRIMARY KEY (root, part, run));
PRAGMA user_version = {VERSION};
"""
T = TypeVar("T")
Stored = tuple[str, str]  # signature of the files read, JSON of what was made of them


def index_path() -> Path:
    """Where it lies: `$XDG_CACHE_HOME/ostinato/runs.sqlite`, `~/.cache/...` without that variable."""
    given = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(given if os.path.isabs(given) else os.devnull) / "ostinato" / "runs.sqlite"  # no home: never written


@functools.cache
def index_of(root: str) -> RunIndex:
    """The index of the runs in one folder; what is new in it is stored when the process ends."""
    index = RunIndex(os.path.realpath(root), index_path())
    atexit.register(index.save)
    return index


class RunIndex:
    """`get` gives what `make` would, from before if the files are the same."""

    def __init__(self, root: str, path: Path) -> None:
        self.root, self.path = root, path
        self._known: dict[str, dict[str, Stored]] = {}  # part -> run -> stored
        self._new: dict[tuple[str, str], Stored] = {}
        self._gone: set[str] = set()

    def get(self, folder: str, part: str, files: Iterable[str], make: Callable[[], Any]) -> Any:
        """A part of a run, JSON's types, that depends on these files of its folder alone."""
        known = self._part(part)
        signature, name = signature_of(folder, files), os.path.basename(folder)
        stored = known.get(name)
        if stored is not None and stored[0] == signature:
            return json.loads(stored[1])
        value = make()
        if signature == signature_of(folder, files):  # else it was written while it was read
            with contextlib.suppress(TypeError, ValueError):  # a damaged file may hold anything
                known[name] = self._new[part, name] = signature, json.dumps(value)
        return value

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget runs that are no longer there."""
        self._gone = {name for part in self._known.values() for name in part}.difference(names)

    def save(self) -> None:
        """Store what is new, and forget folders that are gone."""
        if self._new or self._gone:
            self._use(self._write)
        self._new, self._gone = {}, set()

    def _part(self, part: str) -> dict[str, Stored]:
        if part not in self._known:
            question = "SELECT run, signature, value FROM entries WHERE root = ? AND part = ?"
            rows: list[Any] = []
            if self.path.is_file():
                rows = self._use(lambda database: database.execute(question, (self.root, part)).fetchall()) or []
            self._known[part] = {run: (signature, value) for run, signature, value in rows}
        return self._known[part]

    def _write(self, database: sqlite3.Connection) -> None:
        rows = [(self.root, part, run, *stored) for (part, run), stored in self._new.items()]
        database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)", rows)
        gone = [(self.root, run) for run in self._gone]
        database.executemany("DELETE FROM entries WHERE root = ? AND run = ?", gone)
        roots = [root for (root,) in database.execute("SELECT DISTINCT root FROM entries") if not os.path.isdir(root)]
        database.executemany("DELETE FROM entries WHERE root = ?", [(root,) for root in roots])
        database.commit()

    def _use(self, action: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do something with the open file; None where that cannot be, which is no one's concern."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path, timeout=WAIT_SECONDS)) as database:
                if database.execute("PRAGMA user_version").fetchone() != (VERSION,):
                    database.executescript(BEGIN)
                return action(database)
        except (sqlite3.OperationalError, OSError):
            return None  # locked, full, not ours
        except sqlite3.DatabaseError:
            with contextlib.suppress(OSError):
                self.path.unlink()  # damaged: the next one begins anew
            return None


def signature_of(folder: str, files: Iterable[str]) -> str:
    """What tells one state of some files from another."""
    found = []
    for name in files:
        try:
            stat = os.stat(f"{folder}/{name}")
            found.append(f"{stat.st_mtime_ns} {stat.st_size} {stat.st_ino}")
        except OSError:
            found.append("-")
    return ";".join(found)
