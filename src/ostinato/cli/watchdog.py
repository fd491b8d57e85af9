"""A run that hangs says where, and ends in bounded time."""

from __future__ import annotations

import faulthandler
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

FLOOR_SECONDS = 60.0
SLOW_FACTOR = 10.0


class Watchdog(threading.Thread):
    """Without a step within max(60 s, 10 x median) all stacks go to `log`; after `timeout_seconds`, `on_hang(step)`.

    The first step, evaluations and saves have the long limit alone.
    """

    def __init__(
        self, log: Path, timeout_seconds: float, on_hang: Callable[[int], None], floor_seconds: float = FLOOR_SECONDS
    ) -> None:
        super().__init__(name="ostinato-watchdog", daemon=True)
        self.log, self.timeout, self.on_hang, self.floor = log, timeout_seconds, on_hang, floor_seconds
        self.seconds: list[float] = []
        self.over = threading.Event()
        self.between_steps(0)

    def between_steps(self, step: int) -> None:
        """A step is done; what follows before the next may take long."""
        self.step, self.since, self.stepping, self.told = step, time.monotonic(), False, False

    def next_step(self, seconds: float) -> None:
        """The next step begins; the last one took so many seconds."""
        self.seconds = [*self.seconds[-99:], seconds]
        self.since, self.stepping, self.told = time.monotonic(), True, False

    def run(self) -> None:
        while not self.over.wait(min(1.0, self.floor / 4)):
            waited = time.monotonic() - self.since
            slow = max(self.floor, SLOW_FACTOR * statistics.median(self.seconds)) if self.seconds else self.timeout
            if self.stepping and waited > slow and not self.told:
                self.told = True
                self._tell(waited)
            if waited > self.timeout:
                self._tell(waited)
                self.on_hang(self.step + 1)
                return

    def _tell(self, waited: float) -> None:
        with self.log.open("a") as file:
            print(f"no step for {waited:.0f} s after step {self.step}; where every thread is:", file=file, flush=True)
            faulthandler.dump_traceback(file, all_threads=True)

    def stop(self) -> None:
        """The run is over."""
        self.over.set()
