"""`logs/metrics.jsonl`: one JSON object per line, each written by one system call: a kill loses no written row."""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError, UserError

log = logging.getLogger(__name__)
RESERVED = frozenset({"kind", "step", "segment", "time", "data", "perf"})
FRAGMENT_KEPT_CHARACTERS = 10_000
Row = dict[str, Any]


def check_names(names: Iterable[str], taken: Iterable[str] = ()) -> None:
    """Raise UserError for a metric called like a field that every row has (or one of `taken`)."""
    wrong = sorted(RESERVED.union(taken).intersection(names))
    if wrong:
        raise UserError(
            f"metric {wrong[0]!r}: this name is a field of every row. Rename it; reserved are "
            f"{', '.join(sorted(RESERVED.union(taken)))}."
        )


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as Python's (0-d only)."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"a metrics row holds numbers and texts, not {type(value).__name__}")


def _finite(value: Any) -> Any:
    """The same value with not-finite floats as "nan", "inf", "-inf", which JSON can hold."""
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    return repr(float(value)) if isinstance(value, float) and not math.isfinite(value) else value


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode


def encode(row: Mapping[str, Any]) -> bytes:
    """A row as one line, newline included; floats by `repr`, so exact."""
    try:
        text = _encode(row)
    except ValueError:  # not finite, seldom
        text = _encode(_finite(row))
    return text.encode("utf-8", errors="backslashreplace") + b"\n"


class Metrics:
    """The writer of a run's rows. Rows that the disk does not take are kept and written later, in order."""

    def __init__(self, path: Path, segment: int, on_row: Callable[[Row], None] | None = None) -> None:
        self.path, self.segment = path, segment
        self.closed_by: RefusedError | None = None  # set when another process took the run over
        self._on_row = on_row
        self._pending: list[bytes] = []
        self._lock = threading.Lock()
        path.parent.mkdir(exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, row: Mapping[str, Any], metrics: Mapping[str, Any] | None = None) -> bool:
        """Write a row (`step`, `kind` if not "train", fields of the framework) with an algorithm's `metrics` in it.

        True: it is in the file, and survives a kill. False: the disk refused it (said once in the log), it is kept
        in memory and written before the next row, at the latest by `sync`, which raises if it cannot.
        """
        if self.closed_by is not None:
            raise self.closed_by
        full: Row = {"kind": "train", "step": 0, "segment": self.segment, "time": round(time.time(), 3)}
        if "segment" in row or "time" in row:
            check_names(("segment", "time"))
        full.update(row)
        if metrics:
            check_names(metrics, row)
            full.update(metrics)
        line = encode(full)
        with self._lock:
            self._pending.append(line)
            error = self._flush()
            first_failure = error is not None and len(self._pending) == 1
        if first_failure:
            log.warning("%s cannot be written: %s. Rows are kept in memory until it can.", self.path, error)
        if self._on_row is not None:
            self._on_row(full)
        return error is None

    def _flush(self) -> OSError | None:
        """Write what is pending; a row goes in whole or not at all."""
        while self._pending:
            line, written = self._pending[0], 0
            try:
                while written < len(line):  # once, but for a full disk, whose second answer says the reason
                    written += os.write(self._descriptor, line[written:])
            except OSError as error:
                if written:  # take the fragment back
                    os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
                return error
            self._pending.pop(0)
        return None

    @property
    def pending(self) -> int:
        """Rows that the disk has not taken yet."""
        return len(self._pending)

    def sync(self) -> None:
        """All rows on the disk itself, before a checkpoint is committed; raises OSError if that cannot be."""
        with self._lock:
            error = self._flush()
            if error is not None:
                raise error
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Write and sync what is left, and close; raises OSError naming how many rows are lost."""
        if self._descriptor < 0:
            return
        try:
            self.sync()
        except OSError as error:
            raise OSError(error.errno, f"{len(self._pending)} rows could not be written: {error.strerror}") from error
        finally:
            os.close(self._descriptor)
            self._descriptor = -1


def cut_torn_line(path: Path) -> str | None:
    """Cut the file back to its last newline, as a power loss may have torn the last row; the fragment, or None."""
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return None
    with file:
        end = file.seek(0, os.SEEK_END)
        start = end
        fragment = b""
        while start > 0 and b"\n" not in fragment:
            size = min(1 << 16, start)
            start -= size
            file.seek(start)
            fragment = file.read(size) + fragment
        newline = fragment.rfind(b"\n")
        fragment = fragment[newline + 1 :]
        if not fragment:
            return None
        file.truncate(end - len(fragment))
        os.fsync(file.fileno())
    return fragment.decode("utf-8", errors="backslashreplace")[:FRAGMENT_KEPT_CHARACTERS]
