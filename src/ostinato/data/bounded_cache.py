"""Token shards that are kept while there is room: the folders that were not used for longest are taken away."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ostinato.core.errors import RefusedError
from ostinato.data.tokens import TokenShards

TRIES = 3


class BoundedCache:
    """At most about `limit` bytes below `folder`, which several processes may share."""

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder, self._limit = folder, limit

    def open(self, name: str, prepare: Callable[[], TokenShards]) -> TokenShards:
        """What `prepare` makes in `folder`/tokens, or finds there. One process prepares a name, the others wait."""
        for attempt in range(TRIES):
            try:
                with self._locked(name):
                    shards = prepare()
                    shards.map()  # from here on nobody can take it away
                    os.utime(shards.folder)
                break
            except (RefusedError, FileNotFoundError):  # another process needed the room
                if attempt == TRIES - 1:
                    raise
        self._make_room(shards.folder)
        return shards

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        path = self.folder / "locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _make_room(self, used: Path) -> None:
        found = []
        for folder in used.parent.iterdir():
            try:
                if not folder.name.startswith("."):
                    size = sum(file.stat().st_size for file in folder.iterdir())
                    found.append((folder.stat().st_mtime_ns, folder, size))
            except FileNotFoundError:  # another process was first
                continue
        total = sum(size for _, _, size in found)
        for _, folder, size in sorted(found):
            if total <= self._limit:
                return
            if folder != used and _remove(folder):
                total -= size


def _remove(folder: Path) -> bool:
    """Whether it was this process that took the folder away: at once for others, who never see half of it."""
    gone = folder.with_name(f".gone-{folder.name}-{os.getpid()}")
    try:
        os.rename(folder, gone)
    except OSError:
        return False
    shutil.rmtree(gone, ignore_errors=True)
    return True
