"""The checkpoints of one run: when a save may start, who waits for it, what is kept, what is put aside."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostinato.core import manifest as manifests
from ostinato.core.errors import OstinatoError, RefusedError
from ostinato.training.checkpoint import Snapshot, free_name, newest_good, step_folders, step_of, write_checkpoint

Event = Callable[..., None]


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay: the union of the last, each N-th step's, the best, and the pinned."""

    keep_last: int = 3
    keep_every: int | None = None
    keep_best: int = 0
    best_metric: str = "validation/loss"
    best_mode: str = "min"

    def kept(self, folders: list[Path], pinned: set[int]) -> set[Path]:
        """Of `folders`, newest first, those to keep. At least two are kept, since the newest may turn out damaged."""
        keep = set(folders[: max(2, self.keep_last)])
        keep |= {f for f in folders if step_of(f) in pinned or (self.keep_every and step_of(f) % self.keep_every == 0)}
        if self.keep_best:
            scores = {f: manifests.read_checkpoint(f)["metrics"].get(self.best_metric) for f in folders}
            scored = [f for f in folders if scores[f] is not None]
            keep |= set(sorted(scored, key=lambda f: scores[f], reverse=self.best_mode == "max")[: self.keep_best])
        return keep


class Checkpoints:
    """Saves in the background, one at a time; a failed save is tried again, two failures in a row stop the run.

    `event(name, step, **fields)` records what happened; `before_commit()` refuses (raises) when another process
    has taken the run over.
    """

    def __init__(
        self,
        folder: Path,
        retention: Retention,
        event: Event,
        before_commit: Callable[[], None] = lambda: None,
        background: bool = True,
        keep_existing: bool = True,
        writable: bool = True,
    ) -> None:
        self.folder = folder
        self.retention = retention
        self.event = event
        self.before_commit = before_commit
        self.background = background
        self.keep_existing = (
            keep_existing  # deterministic numerics: an intact checkpoint of the same step must be equal
        )
        self.failures = 0
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None
        if not writable:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in (*folder.glob(".tmp-*"), *folder.glob(".trash-*")):
            shutil.rmtree(leftover, ignore_errors=True)

    def save(self, snapshot: Snapshot, *, wait: bool) -> None:
        """Write a checkpoint; returns at once unless `wait` or background saves are off."""
        self.wait()
        if self.background and not wait:
            self.thread = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint-writer")
            self.thread.start()
        else:
            self._write(snapshot)
            self.wait()

    def wait(self) -> None:
        """Wait for the save under way; raises what must stop the run."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        if self.error is not None:
            raise self.error

    @property
    def must_retry(self) -> bool:
        """The last save failed: try again after the next step."""
        return self.failures > 0 and (self.thread is None or not self.thread.is_alive())

    def _write(self, snapshot: Snapshot) -> None:
        try:
            self._check_space()
            if self._already_there(snapshot):
                return
            final = write_checkpoint(self.folder, snapshot, self.before_commit)
            self.failures = 0
            self.event("checkpoint_saved", snapshot.step, path=final.name)
            self._prune()
        except OSError as error:
            self._remove_temporary()
            self.failures += 1
            self.event("save_failed", snapshot.step, problem=str(error))
            if self.failures >= 2:
                self.error = OstinatoError(f"cannot save: {error}. The earlier checkpoints are untouched.")
        except BaseException as error:  # a refusal: handed to the main thread
            self._remove_temporary()
            self.error = error

    def _remove_temporary(self) -> None:
        for leftover in self.folder.glob(".tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _check_space(self) -> None:
        folders = step_folders(self.folder)
        if not folders:
            return
        needed = int(1.1 * sum(file.stat().st_size for file in folders[0].rglob("*") if file.is_file()))
        if (free := shutil.disk_usage(self.folder).free) < needed:
            raise OSError(f"{free:,} bytes are free where checkpoints are written, {needed:,} are needed")

    def _already_there(self, snapshot: Snapshot) -> bool:
        """An intact checkpoint of this step is never overwritten: kept when bits must be equal, else put aside."""
        existing = self.folder / f"step_{snapshot.step:08d}"
        if not existing.exists():
            return False
        if self.keep_existing:
            from ostinato.training.tensor_files import describe

            before = manifests.read_checkpoint(existing)["tensors"]
            for name, tensor in snapshot.tensors.items():
                if before.get(name, {}).get("xxh3") != describe(tensor)["xxh3"]:
                    raise RefusedError(f"{existing}: replayed step {snapshot.step} gives other bits in {name}.")
            return True
        os.rename(existing, free_name(existing, "rewound"))
        return False

    def _prune(self) -> None:
        folders = step_folders(self.folder)
        pinned = {int(pin.stem.rpartition("step_")[2]) for pin in (self.folder / "pins").glob("*-step_*.json")}
        keep = self.retention.kept(folders, pinned)
        for folder in folders:
            if folder not in keep:
                trash = folder.with_name(f".trash-{folder.name}")
                os.rename(folder, trash)
                shutil.rmtree(trash, ignore_errors=True)

    def newest(self, run_id: str | None) -> tuple[Path, dict[str, Any]] | None:
        """The newest good checkpoint; each bad one on the way is put aside as `.damaged-K`, recorded and said."""
        problems: list[tuple[int, str, str]] = []

        def quarantine(folder: Path, problem: str) -> None:
            aside = free_name(folder, "damaged")
            os.rename(folder, aside)
            problems.append((step_of(folder), problem, aside.name))

        try:
            found = newest_good(self.folder, run_id, quarantine)
        finally:
            for step, problem, aside in problems:
                self.event("checkpoint_damaged", step, problem=problem, put_aside=aside)
        return found

    def put_aside_after(self, step: int) -> None:
        """Rename checkpoints later than `step` to `.rewound-K`: the run goes on from `step` another way."""
        for folder in step_folders(self.folder):
            if step_of(folder) > step:
                os.rename(folder, free_name(folder, "rewound"))
