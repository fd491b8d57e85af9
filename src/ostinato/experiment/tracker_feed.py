"""Which rows go to which trackers, and their common beginning and end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ostinato.core.registry import TRACKERS
from ostinato.experiment.tracker_thread import TrackerThread

CLOSING_SECONDS = 10.0


class TrackerFeed:
    """The trackers of a run: evaluations and machine load go to all, `train` rows at each `log_interval`."""

    def __init__(self, logging: Any, on_off: Callable[[str, str, int], None]) -> None:
        self._nodes: Mapping[str, Any] = logging.trackers
        self._interval: int = logging.log_interval
        self._on_off = on_off
        self.threads: list[TrackerThread] = []

    def open(self, folder: Path, run: Mapping[str, Any]) -> None:
        """Prepare a thread per tracker; the tracker itself is made there, when the first row comes."""
        for label, node in self._nodes.items():

            def build(node: Any = node) -> Any:
                return TRACKERS.build(node, folder, run)

            self.threads.append(TrackerThread(label, build, self._on_off))

    def put(self, row: dict[str, Any]) -> None:
        """Pass a row on; never waits."""
        kind = row["kind"]
        if kind in ("eval", "system") or (kind == "train" and self._interval and row["step"] % self._interval == 0):
            for thread in self.threads:
                thread.put(row)

    def poll(self) -> None:
        """Switch off what makes no progress."""
        for thread in self.threads:
            thread.poll()

    def close(self, seconds: float = CLOSING_SECONDS) -> None:
        """End all trackers, waiting at most `seconds` together."""
        deadline = time.monotonic() + seconds
        for thread in self.threads:
            thread.begin_close()
        for thread in self.threads:
            thread.wait_closed(deadline)
