"""A run while it lasts: its folder, rows, status, log, trackers. All a trainer needs to know of `experiment`."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ostinato.core.config import Config
from ostinato.core.errors import RefusedError
from ostinato.experiment import claims
from ostinato.experiment.creation import create_folder
from ostinato.experiment.environment import collect
from ostinato.experiment.logs import RunLog
from ostinato.experiment.metrics import Metrics, cut_torn_line
from ostinato.experiment.provenance import Capture
from ostinato.experiment.reading import read_or_empty
from ostinato.experiment.records import Records
from ostinato.experiment.resuming import claim_next
from ostinato.experiment.status import Heartbeat, Status, describe_error
from ostinato.experiment.system import machine_load
from ostinato.experiment.tracker_feed import TrackerFeed

log = logging.getLogger(__name__)
SYSTEM_SECONDS = 30.0
PROVENANCE_SECONDS = 120.0  # at the end, for a bundle that is still being written


class Run:
    """A run that this process owns. Made by `create` or `resume`, never directly.

    Example:
        run = Run.create(config, command=sys.argv)
        run.start()
        for step in range(1, config.training.total_steps + 1):
            run.status.step = step
            run.metrics.write({"step": step, "loss": loss})
        run.finish("completed")
    """

    def __init__(self, folder: Path, config: Config, segment: int, capture: Capture) -> None:
        self.folder, self.config, self.segment, self.capture = folder, config, segment, capture
        self.records = Records(folder, segment)
        self.name: str = self.metadata["name"]
        self.id: str = self.metadata["id"]
        self.finished = self._environment_known = False
        self.log = RunLog(folder)
        torn = cut_torn_line(folder / "logs" / "metrics.jsonl")
        self.trackers = TrackerFeed(config.logging, self._tracker_off, self.records.set_remote)
        self.metrics = Metrics(folder / "logs" / "metrics.jsonl", segment, self.trackers.put)
        before = read_or_empty(folder / "status.json")
        self.status = Status(folder, segment, {"total_steps": config.training.total_steps, **before})
        self._system_due = SYSTEM_SECONDS
        self._heartbeat = Heartbeat(self.status, self.check_fence, self._fenced, self._regularly)
        if torn is not None:
            self.event("torn_line", fragment=torn)
        capture.record_in(self.records)

    @property
    def metadata(self) -> dict[str, Any]:
        """What `metadata.json` holds."""
        return self.records.metadata

    @classmethod
    def create(
        cls,
        config: Config,
        *,
        command: Sequence[str] = (),
        overrides: Iterable[str] = (),
        capture: Capture | None = None,
        code: bool = True,
        **metadata: Any,
    ) -> Run:
        """Begin a new run in `<output_root>/<name>`; UserError (nothing written) if the name is taken.

        `capture`: a Capture started earlier, beside the import of torch. `code=False`: do not store the code.
        """
        metadata = capture.facts(metadata) if capture else metadata
        folder = create_folder(config, command or sys.argv, overrides, metadata)
        return cls(folder, config, 0, capture or Capture(config.plugins, config.experiment.output_root, code=code))

    @classmethod
    def resume(
        cls,
        folder: Path,
        config: Config | None = None,
        *,
        command: Sequence[str] = (),
        overrides: Iterable[str] = (),
        capture: Capture | None = None,
        code: bool = True,
    ) -> Run:
        """Go on with a run as its next segment. UserError: its owner lives, another resume was quicker, or `config`
        differs in what it asks; Completed (exit code 0): there is nothing left to do."""
        config, number = claim_next(folder, config, command or sys.argv, overrides)
        capture = capture or Capture(config.plugins, folder.parent, code=code)
        run = cls(folder, config, number, capture)
        run.status.update(state="created", reason=None, signal=None, exit_code=None, error=None)
        return run

    def start(self, *, step: int = 0, total_steps: int | None = None, world: Mapping[str, Any] | None = None) -> None:
        """Training begins after `step` (a resume records the rewind). Waits until the code is hashed."""
        if not self.capture.wait_hashed():
            log.warning("the code is still being hashed; edits made now may be in the record of this run")
        fields = {"resumed_from": step} if self.segment else {}
        self.records.set_segment(code=self.capture.tree, world=dict(world or {}), **fields)
        if self.segment:
            self._warn_of_other_code()
            self.metrics.write({"kind": "rewind", "step": step})
        if not self._environment_known:
            self.record_environment({})
        info = {"name": self.name, "id": self.id, "segment": self.segment, "resumed_from": step if fields else None}
        self.trackers.open(self.folder, info)
        self.status.update(state="running", step=step, total_steps=total_steps or self.config.training.total_steps)

    def event(self, name: str, step: int | None = None, **fields: Any) -> None:
        """Record that something happened. `checkpoint_saved` also becomes the status's last checkpoint."""
        step = self.status.step if step is None else step
        self.metrics.write({"kind": "event", "step": step, "event": name, **fields})
        log.info("%s at step %d%s", name, step, "".join(f", {key}: {value}" for key, value in fields.items()))
        if name == "checkpoint_saved":
            self.status.update(last_checkpoint=step)

    def check_fence(self) -> None:
        """Raise RefusedError if another process took this run over; call it before a checkpoint is committed."""
        claims.check_fence(self.folder, self.segment)

    def record(self, **parts: Any) -> None:
        """Set fields of `metadata.json` that were not known at birth: data, tokenizer, numerics, lineage, ..."""
        self.records.set(**parts)

    def record_environment(self, torch_facts: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Store the environment with what torch says of itself (torch, cuda, devices, threads, ...).

        On a resume returns what can change bits and differs from the segment before, also as an event:
        [{name, old, new}].
        """
        changes = self.records.set_environment(collect(torch_facts))
        self._environment_known = True
        if changes:
            self.event("environment_changed", changes=changes)
        return changes

    def finish(
        self,
        state: str,
        *,
        reason: str | None = None,
        signal: int | None = None,
        exit_code: int | None = None,
        error: BaseException | None = None,
    ) -> None:
        """End the run: completed, failed, interrupted or preempted. What cannot be written is said, nothing raises."""
        if self.finished:
            return
        self.finished = True
        if error is not None:
            log.error("failed at step %d", self.status.step, exc_info=error, extra={"file_only": True})
        self.trackers.close()
        self.capture.join(PROVENANCE_SECONDS)
        self._heartbeat.stop()
        try:
            self.check_fence()
            self.metrics.close()
        except (OSError, RefusedError) as problem:
            log.warning("%s: %s", self.folder, problem)
        if self.metrics.closed_by is None:
            described = describe_error(error, self.status.step) if error is not None else None
            self.status.update(state=state, reason=reason, signal=signal, exit_code=exit_code, error=described)
        log.info("%s at step %d%s", state, self.status.step, f": {reason}" if reason else "")
        self.status.close()
        self.log.close()

    def _fenced(self, error: RefusedError) -> None:
        self.metrics.closed_by = error
        log.error("%s", error)

    def _regularly(self, seconds: float) -> None:
        self.trackers.poll()
        self._system_due -= seconds
        if self._system_due <= 0 and self.status.state == "running":
            self._system_due = SYSTEM_SECONDS
            self.metrics.write({"kind": "system", "step": self.status.step, **machine_load(self.folder)})

    def _tracker_off(self, label: str, problem: str, dropped: int) -> None:
        log.warning("tracker %s is switched off: %s (%d rows not sent); metrics.jsonl has all", label, problem, dropped)
        with contextlib.suppress(RefusedError):
            self.event("tracker_off", tracker=label, problem=problem, dropped=dropped)

    def _warn_of_other_code(self) -> None:
        recorded = [entry.get("tree") for entry in self.metadata.get("code") or []]
        if self.capture.tree and recorded and self.capture.tree not in recorded:
            log.warning("the code differs from that of this run's start (tree %s now)", self.capture.tree[:12])
