"""Trackers by name: where rows go besides `metrics.jsonl`. Each runs on a thread of its own (tracker_thread.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ostinato.core.registry import TRACKERS


class Tracker(Protocol):
    """Built as `Tracker(folder, run, **options)` on its own thread; may raise or hang without harm to the run.

    `run` says `name`, `id`, `segment` and, after a resume, `resumed_from`, the step after which rows are new.

    Example:
        @TRACKERS.register("lines")
        class Lines:
            def __init__(self, folder, run): self.file = (folder / "logs" / "lines.txt").open("a")
            def log(self, row): print(row["step"], row.get("loss"), file=self.file)
            def close(self): self.file.close()
    """

    def log(self, row: dict[str, Any]) -> None:
        """Take one row of `metrics.jsonl`."""

    def close(self) -> None:
        """Send what is left."""


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row as `train/loss`, `perf/seconds`, `validation/loss`, `system/memory_gib`."""
    kind = row.get("kind", "train")
    found: dict[str, float] = {}
    for name, value in row.items():
        if name in ("kind", "step", "segment", "time", "data"):
            continue
        if isinstance(value, Mapping):
            found |= {f"{name}/{inner}": float(v) for inner, v in value.items() if _is_number(v)}
        elif _is_number(value):
            found[name if kind == "eval" or "/" in name else f"{kind}/{name}"] = float(value)
    return found


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value in ("nan", "inf", "-inf")
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@TRACKERS.register("tensorboard")
class TensorBoard:
    """Event files in `logs/tensorboard`, for `tensorboard --logdir experiments`; written without torch."""

    def __init__(self, folder: Path, run: Mapping[str, Any], *, flush_seconds: int = 10) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder / "logs" / "tensorboard"), flush_secs=flush_seconds)
        if run.get("resumed_from") is not None:  # hides the rows of the old tail, which are computed again
            start = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(step=run["resumed_from"] + 1, session_log=start))

    def log(self, row: dict[str, Any]) -> None:
        """One event with every number of the row."""
        values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in scalars(row).items()]
        if values:
            event = self._event(wall_time=row["time"], step=row["step"], summary=self._summary(value=values))
            self._writer.add_event(event)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()
