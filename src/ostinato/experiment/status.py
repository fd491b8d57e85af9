"""`status.json`: state, step and heartbeat of a run, rewritten every few seconds by a thread and at each change."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError
from ostinato.core.manifest import write_json
from ostinato.experiment.secrets import masked

log = logging.getLogger(__name__)
BEAT_SECONDS = 5.0
ENDED = ("completed", "failed", "interrupted", "preempted")


def utc_now() -> str:
    """The present as written in every file: UTC, ISO 8601, seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def describe_error(error: BaseException, step: int) -> dict[str, Any]:
    """An exception as `status.json` holds it: {type, message, step, file, line} of where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = {"file": masked(frames[-1].filename), "line": frames[-1].lineno} if frames else {"file": None, "line": None}
    return {"type": type(error).__name__, "message": masked(str(error)), "step": step, **place}


class Status:
    """The state of a run. Setting `step` costs nothing: the next heartbeat writes it."""

    def __init__(self, folder: Path, segment: int, fields: Mapping[str, Any]) -> None:
        self.path = folder / "status.json"
        self.step: int = fields.get("step") or 0
        self._fields: dict[str, Any] = {"version": 1, "state": "created", "segment": segment, "step": 0}
        self._fields |= {"total_steps": None, "last_checkpoint": None, "heartbeat": 0, "updated": utc_now()}
        self._fields |= {"reason": None, "signal": None, "exit_code": None, "error": None}
        self._fields |= {name: fields[name] for name in ("total_steps", "last_checkpoint") if name in fields}
        self._lock = threading.Lock()
        self._failing = False
        self._closed = False

    @property
    def state(self) -> str:
        """created, running, completed, failed, interrupted or preempted."""
        return self._fields["state"]

    def update(self, **fields: Any) -> None:
        """Change fields and write at once. A disk that refuses is said in the log, once, and stops nobody."""
        with self._lock:
            if "step" in fields:
                self.step = fields.pop("step")
            unknown = fields.keys() - self._fields.keys()
            if unknown:
                raise TypeError(f"status has no {', '.join(sorted(unknown))}")
            self._fields.update(fields)
            self._write(durable=True)

    def beat(self) -> None:
        """A sign of life."""
        with self._lock:
            self._fields["heartbeat"] += 1
            self._write(durable=False)

    def _write(self, *, durable: bool) -> None:
        if self._closed:
            return
        self._fields |= {"step": self.step, "updated": utc_now()}
        try:
            write_json(self.path, self._fields, durable=durable)
            self._failing = False
        except OSError as error:
            if not self._failing:
                self._failing = True
                log.warning("%s cannot be written: %s. The run goes on.", self.path, error)
            with contextlib.suppress(OSError):  # a full disk: others can still see that the owner lives
                os.utime(self.path)

    def close(self) -> None:
        """Nothing is written any more."""
        with self._lock:
            self._closed = True


class Heartbeat:
    """The thread behind `Status.beat`; it also looks for a newer segment and calls what is due regularly."""

    def __init__(
        self,
        status: Status,
        check_fence: Callable[[], None],
        on_fenced: Callable[[RefusedError], None],
        regularly: Callable[[float], None],
        seconds: float = BEAT_SECONDS,
    ) -> None:
        self._status, self._check_fence, self._on_fenced, self._regularly = status, check_fence, on_fenced, regularly
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="ostinato-heartbeat", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self._check_fence()
                self._status.beat()
                self._regularly(self._seconds)
            except RefusedError as error:
                self._status.close()
                self._on_fenced(error)
                return
            except Exception:  # whatever happens in here, the run must not seem dead
                log.exception("the heartbeat goes on after an error")

    def stop(self) -> None:
        """End the thread (it is not in the middle of a write afterwards)."""
        self._stop.set()
        self._thread.join(timeout=10)
