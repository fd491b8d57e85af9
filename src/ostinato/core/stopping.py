"""Stopping on request: a signal sets a flag and nothing else; a second one exits at once. Imports nothing heavy,
so that handlers stand before torch is imported."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopFlag:
    """`number` is 0 until a stop signal came, then that signal's number."""

    def __init__(self) -> None:
        self.number = 0

    def install(self) -> StopFlag:
        """Handle SIGTERM, SIGUSR1 and SIGINT from now on; only in the main thread."""
        for number in SIGNALS:
            signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            os._exit(128 + number)
        self.number = number


class StopRequested(Exception):
    """Raised at a poll point; whatever was under way since the last whole step is dropped."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def die_with_launcher() -> Path | None:
    """Under `ostinato launch`: be killed when the launcher is, and return where it wants to read the exit code."""
    launcher, _, answer = os.environ.get("OSTINATO_LAUNCHER", "").partition(":")
    if not launcher:
        return None
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(launcher):  # it was already gone
        os._exit(1)
    return Path(answer)
