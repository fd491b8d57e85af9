"""One background thread per tracker, behind a bounded queue: whatever a tracker does, training never waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)
CAPACITY = 10_000
STALL_SECONDS = 30.0
Row = dict[str, Any]


class TrackerThread:
    """Feeds rows to the tracker that `build` makes. `on_off(label, problem, dropped)` is called once, if it is
    switched off: by an exception, or by `poll` after 30 s without progress. `on_remote(label, remote)` is called
    once, if the tracker writes into a run elsewhere."""

    def __init__(
        self,
        label: str,
        build: Callable[[], Any],
        on_off: Callable[[str, str, int], None],
        *,
        on_remote: Callable[[str, Any], None] = lambda label, remote: None,
        capacity: int = CAPACITY,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.label, self.dropped, self.off = label, 0, False
        self._build, self._on_off, self._on_remote, self._stall_seconds = build, on_off, on_remote, stall_seconds
        self._rows: deque[Row] = deque(maxlen=capacity)
        self._wake = threading.Event()
        self._closing = False
        self._busy_since: float | None = None
        self._switch = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, row: Row) -> None:
        """Queue a row; of a full queue the oldest is dropped and counted. The first row starts the thread."""
        if self.off:
            return
        if len(self._rows) == self._rows.maxlen:
            self.dropped += 1
        self._rows.append(row)
        self._wake.set()
        if self._thread is None:
            self._busy_since = time.monotonic()
            self._thread = threading.Thread(target=self._work, name=f"ostinato-tracker-{self.label}", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        try:
            tracker = self._build()
            if remote := getattr(tracker, "remote", None):
                self._on_remote(self.label, dict(remote))
            while not self.off:
                while self._rows and not self.off:
                    self._busy_since = time.monotonic()
                    tracker.log(self._rows.popleft())
                if self._closing and not self._rows:
                    self._busy_since = time.monotonic()
                    tracker.close()
                    return
                self._busy_since = None
                self._wake.wait()
                self._wake.clear()
        except BaseException as error:  # not even SystemExit of a library may end the run
            log.debug("tracker %s", self.label, exc_info=True)
            self._switch_off(f"{type(error).__name__}: {error}")
        finally:
            self._busy_since = None

    def poll(self) -> None:
        """Switch the tracker off if it made no progress for too long. Called regularly by another thread."""
        since = self._busy_since
        if since is not None and time.monotonic() - since > self._stall_seconds:
            self._switch_off(f"no progress for {self._stall_seconds:.0f} s")

    def _switch_off(self, problem: str) -> None:
        with self._switch:
            if self.off:
                return
            self.off = True
        unsent = len(self._rows)
        self._rows.clear()
        self._on_off(self.label, problem, self.dropped + unsent)

    def begin_close(self) -> None:
        """Ask for the end; does not wait."""
        self._closing = True
        self._wake.set()

    def wait_closed(self, deadline: float) -> None:
        """Wait until the deadline (monotonic); then the thread is left to itself."""
        if self._thread is None or self.off:
            return
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._switch_off("still busy when the run ended")
        elif self.dropped and not self.off:
            log.warning("tracker %s: %d rows were dropped, it was too slow", self.label, self.dropped)
