"""TensorBoard's event files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostinato.core.registry import TRACKERS
from ostinato.experiment.tracker_rows import scalars


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
