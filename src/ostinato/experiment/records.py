"""The records of a run that become complete after its birth: `metadata.json`, the segment's file, the environment."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostinato.core.manifest import write_json
from ostinato.experiment import environment
from ostinato.experiment.claims import check_fence, segment_path
from ostinato.experiment.reading import read_json, read_or_empty


class Records:
    """Writes for one segment of a run, from several threads; refuses when the run was taken over."""

    def __init__(self, folder: Path, segment: int) -> None:
        self.folder, self.segment = folder, segment
        self._lock = threading.RLock()
        self.metadata = read_json(folder / "metadata.json")

    def set(self, **parts: Any) -> None:
        """Set fields of `metadata.json`."""
        with self._lock:
            check_fence(self.folder, self.segment)
            current = read_or_empty(self.folder / "metadata.json") or self.metadata  # verbs may have added tags
            self.metadata = {**current, **parts}
            write_json(self.folder / "metadata.json", self.metadata)

    def set_segment(self, **fields: Any) -> None:
        """Set fields of this segment's file."""
        with self._lock:
            check_fence(self.folder, self.segment)
            path = segment_path(self.folder, self.segment)
            write_json(path, {**read_json(path), **fields})

    def set_remote(self, tracker: str, remote: Mapping[str, Any]) -> None:
        """Which run elsewhere a tracker of this segment writes into; a resume goes on with that one."""
        with self._lock:
            known = read_json(segment_path(self.folder, self.segment)).get("trackers") or {}
            self.set_segment(trackers={**known, tracker: dict(remote)})

    def set_code(self, code: list[dict[str, Any]]) -> None:
        """What the code was: of the run's birth in `metadata.json`, of a resume in its segment."""
        if self.segment == 0:
            self.set(code=code)
        else:
            self.set_segment(code_roots=code)

    def set_environment(self, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Store the environment, in a file of its own if it differs from that of the segment before.

        Returns what can change bits and differs from that segment: [{name, old, new}].
        """
        digest, name, new = environment.environment_hash(facts), "environment.json", True
        changes: list[dict[str, Any]] = []
        if self.segment > 0:
            before = read_or_empty(segment_path(self.folder, self.segment - 1))
            name = before.get("environment_file") or name
            old = read_or_empty(self.folder / "provenance" / name)
            new = not old or environment.environment_hash(old) != digest
            if old and new:
                name, changes = f"environment_{self.segment:05d}.json", environment.changes(old, facts)
        if new:
            write_json(self.folder / "provenance" / name, dict(facts))
        self.set_segment(environment=digest, environment_file=name)
        if self.segment == 0:
            self.set(environment=digest, hardware=environment.hardware(facts))
        return changes
