"""Which rows go to which trackers, and their common beginning and end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ostinato.core.registry import TRACKERS
from ostinato.experiment.claims import newest_segment, segment_path
from ostinato.experiment.reading import read_or_empty
from ostinato.experiment.selecting import config_leaves
from ostinato.experiment.tracker_thread import TrackerThread

CLOSING_SECONDS = 10.0


class TrackerFeed:
    """The trackers of a run: evaluations and machine load go to all, `train` rows at each `log_interval`."""

    def __init__(
        self,
        logging: Any,
        on_off: Callable[[str, str, int], None],
        on_remote: Callable[[str, Any], None] = lambda label, remote: None,
    ) -> None:
        self._nodes: Mapping[str, Any] = logging.trackers
        self._interval: int = logging.log_interval
        self._on_off, self._on_remote = on_off, on_remote
        self.threads: list[TrackerThread] = []

    def open(self, folder: Path, run: Mapping[str, Any]) -> None:
        """Prepare a thread per tracker; the tracker itself is made there, when the first row comes."""
        for label, node in self._nodes.items():

            def build(label: str = label, node: Any = node) -> Any:
                more = {"config": config_leaves(folder), "remote": last_remote(folder, label)}
                return TRACKERS.build(node, folder, {**run, **more})

            self.threads.append(TrackerThread(label, build, self._on_off, on_remote=self._on_remote))

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


def last_remote(folder: Path, label: str) -> dict[str, Any] | None:
    """The run elsewhere that a tracker wrote into, as the newest segment says that knows of one."""
    for number in range(newest_segment(folder)[0], -1, -1):
        if found := (read_or_empty(segment_path(folder, number)).get("trackers") or {}).get(label):
            return found
    return None
