"""`logs/train.log`: all that Python's `logging` is told while a run lasts, with time and place."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from pathlib import Path

from ostinato.experiment.secrets import masked


class _Careful(logging.FileHandler):
    """A file handler that a full disk cannot turn into a traceback per line: said once, then silent."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failed:
            self.failed = True
            print(f"warning: {self.baseFilename} cannot be written: {sys.exc_info()[1]}", file=sys.stderr)


class _Masked(logging.Formatter):
    """UTC, and no secret in any text."""

    converter = staticmethod(time.gmtime)  # type: ignore[assignment]

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


class RunLog:
    """The log file of one process of a run. Other ranks than 0 have a file of their own, for warnings only.

    If nothing else shows log records on the terminal, warnings are also printed on stderr.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.path = folder / "logs" / ("train.log" if rank == 0 else f"train.rank{rank:05d}.log")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        root = logging.getLogger()
        self._file = _Careful(self.path, mode="a", encoding="utf-8", delay=rank != 0)
        self._file.setLevel(logging.INFO if rank == 0 else logging.WARNING)
        line = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s"
        self._file.setFormatter(_Masked(line, "%Y-%m-%dT%H:%M:%S"))
        self._handlers: list[logging.Handler] = [self._file]
        if not root.handlers and not logging.getLogger("ostinato").handlers:
            terminal = logging.StreamHandler(sys.stderr)
            terminal.setLevel(logging.WARNING)
            terminal.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
            terminal.addFilter(lambda record: not getattr(record, "file_only", False))
            self._handlers.append(terminal)
        for handler in self._handlers:
            root.addHandler(handler)
        logging.getLogger("ostinato").setLevel(logging.INFO)

    def close(self) -> None:
        """Detach from `logging`; the file stays."""
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
        with contextlib.suppress(OSError):  # a full disk, which was said
            self._file.close()
