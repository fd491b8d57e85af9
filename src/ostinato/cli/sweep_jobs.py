"""Runs the children of a sweep, some at a time, each a process of its own; a stop signal is passed on to them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ostinato.core.stopping import PR_SET_PDEATHSIG, StopFlag
from ostinato.experiment.reading import state_of
from ostinato.experiment.sweep_folder import SweepFolder
from ostinato.experiment.trials import Trial

POLL_SECONDS = 0.2
ALIVE = ("created", "running")


@dataclass
class Child:
    """A child under way: our process, or (`process` null) one that an earlier sweep left behind."""

    trial: Trial
    folder: Path
    process: subprocess.Popen[bytes] | None
    slot: int

    def exit_code(self) -> int | None:
        """Null while it lasts; of a process that is not ours, what its run's state means."""
        if self.process is not None:
            return self.process.poll()
        state = state_of(self.folder)
        return None if state in ALIVE else 0 if state == "completed" else 1 if state == "failed" else 75


class Jobs:
    """`jobs` children at a time, cores and named devices shared out among them."""

    def __init__(self, folder: SweepFolder, jobs: int, stop: StopFlag) -> None:
        self.folder, self.jobs, self.stop = folder, jobs, stop
        self.environ = folder.place.environ() | threads_of(jobs)
        self.running: list[Child] = []

    def run(self, following: Callable[[], Trial | None], ended: Callable[[Trial, int], None]) -> None:
        """Start what `following` gives (null: nothing now) until it gives nothing and all have ended."""
        try:
            self._run(following, ended)
        except BaseException:  # no child is left behind
            self.signal(signal.SIGTERM)
            for child in self.running:
                if child.process is not None:
                    child.process.wait()
            raise

    def _run(self, following: Callable[[], Trial | None], ended: Callable[[Trial, int], None]) -> None:
        passed_on = 0
        while True:
            while len(self.running) < self.jobs and not self.stop.number and (trial := following()) is not None:
                self.running.append(self.start(trial))
            if self.stop.number and not passed_on:
                passed_on = self.stop.number
                self.signal(passed_on)
            if not self.running:
                return
            time.sleep(POLL_SECONDS)
            for child in list(self.running):
                code = child.exit_code()
                if code is not None:
                    self.running.remove(child)
                    ended(child.trial, code)

    def start(self, trial: Trial) -> Child:
        """A child's process, with its output in `logs/`; none if the run is alive already."""
        run = self.folder.root / trial.name
        slot = min(set(range(self.jobs)) - {child.slot for child in self.running})
        if run.exists() and state_of(run) in ALIVE:
            return Child(trial, run, None, slot)
        with (self.folder.path / "logs" / f"{trial.name}.log").open("ab") as log:
            process = subprocess.Popen(
                self.folder.command(trial), cwd=self.folder.place.cwd, env=self.environ | device_of(slot),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # a Ctrl-C reaches it once, through us
                preexec_fn=stop_with_parent,
            )  # fmt: skip
        return Child(trial, run, process, slot)

    def signal(self, number: int) -> None:
        """Pass a signal on to all children of ours."""
        for child in self.running:
            if child.process is not None and child.process.poll() is None:
                child.process.send_signal(number)
        self.running = [child for child in self.running if child.process is not None]


def stop_with_parent() -> None:
    """Have the system ask this process to save and stop when its parent is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def device_of(slot: int) -> dict[str, str]:
    """Of several devices named in CUDA_VISIBLE_DEVICES, the one of a job's slot."""
    devices = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()]
    return {"CUDA_VISIBLE_DEVICES": devices[slot % len(devices)]} if len(devices) > 1 else {}


def threads_of(jobs: int) -> dict[str, str]:
    """The share of the cores that each of several jobs gets; a single one is started as `train` is."""
    if jobs == 1:
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share, given = max(1, cores // jobs), os.environ.get("OMP_NUM_THREADS", "")
    return {"OMP_NUM_THREADS": str(min(share, int(given)) if given.isdigit() else share)}
