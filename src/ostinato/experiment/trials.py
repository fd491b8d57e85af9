"""`trials.jsonl`: what a sweep has tried, in the order in which it was thought of. Lines are added, never changed."""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostinato.core.errors import RefusedError, UserError
from ostinato.experiment.metrics import cut_torn_line, encode
from ostinato.experiment.reading import counting, number, read_rows, state_of
from ostinato.experiment.search_space import Parameters


@dataclass
class Trial:
    """One point of a sweep and the run that answers it; `failures` counts how often that run ended badly."""

    number: int
    name: str
    science: str
    parameters: Parameters
    failures: int = 0
    ended: str | None = None  # the state that the last `end` line says
    objective: float | None = None

    def state(self, root: Path) -> str:
        """The run's state; `waiting` if there is none yet, `failed` if it failed before it was one."""
        folder = root / self.name
        return state_of(folder) if folder.exists() else "failed" if self.failures else "waiting"


class Trials:
    """The file, held by one sweep process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise UserError(f"{path.parent} is being run by another process. Wait for it, or stop it.") from None
        except OSError:
            pass  # a disk without locks; runs have claims of their own
        cut_torn_line(path)
        self.all = read_trials(path)

    @property
    def by_name(self) -> dict[str, Trial]:
        """The first trial of each run."""
        return first_of_each(self.all)

    def add(self, name: str, science: str, parameters: Parameters) -> Trial:
        """A new trial, with the next number."""
        trial = Trial(len(self.all), name, science, parameters)
        self._write(kind="trial", trial=trial.number, name=name, science=science, parameters=parameters)
        self.all.append(trial)
        return trial

    def end(self, trial: Trial, state: str, exit_code: int | None, objective: float | None) -> None:
        """How a trial's run ended, this time."""
        self._write(kind="end", trial=trial.number, state=state, exit_code=exit_code, objective=objective)
        trial.ended, trial.objective = state, objective
        trial.failures += state == "failed"

    def _write(self, **fields: Any) -> None:
        os.write(self._descriptor, encode({**fields, "time": round(time.time(), 3)}))
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Let others run the sweep."""
        os.close(self._descriptor)


def first_of_each(trials: Iterable[Trial]) -> dict[str, Trial]:
    """Run name -> its first trial, in their order."""
    found: dict[str, Trial] = {}
    for trial in trials:
        found.setdefault(trial.name, trial)
    return found


def read_trials(path: Path) -> list[Trial]:
    """The trials of a file, by number; RefusedError for a line that is none."""
    found: list[Trial] = []
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    for place, line in enumerate(lines, start=1):
        try:
            _take(json.loads(line), found)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise RefusedError(
                f"{path}:{place}: no line of a sweep ({error}). Restore it or remove that line."
            ) from None
    return found


def _take(row: Mapping[str, Any], found: list[Trial]) -> None:
    if row["kind"] == "trial":
        if row["trial"] != len(found):
            raise ValueError(f"trial {row['trial']} where {len(found)} was to come")
        found.append(Trial(row["trial"], str(row["name"]), str(row["science"]), dict(row["parameters"])))
    elif row["kind"] == "end":
        trial = found[row["trial"]]
        trial.ended = row["state"]
        trial.failures += row["state"] == "failed"
        trial.objective = None if row["objective"] is None else number(row["objective"])


def objective_of(folder: Path, metric: str) -> float | None:
    """The last value of a metric that counts; None if no row has it."""
    for row in reversed(counting(read_rows(folder))):
        if row["kind"] in ("train", "eval") and metric in row:
            return number(row[metric])
    return None


def best_first(trials: list[Trial], mode: str) -> list[Trial]:
    """Trials by objective, those without one last, else by number."""

    def position(trial: Trial) -> tuple[bool, float, int]:
        value = trial.objective
        if value is None or math.isnan(value):
            return True, 0.0, trial.number
        return False, value if mode == "min" else -value, trial.number

    return sorted(trials, key=position)
