"""Which trials a sweep has and which of them is next: what is completed is never run again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ostinato.core.errors import RefusedError
from ostinato.experiment import optuna_search
from ostinato.experiment.search_space import Parameters, corners, draw, grid
from ostinato.experiment.sweep_file import SweepFile
from ostinato.experiment.sweep_folder import SweepFolder
from ostinato.experiment.trials import Trial, Trials, objective_of

HOPELESS = (2, 3)  # a mistake, a refusal: the same again would end the same


def points_of(sweep: SweepFile) -> list[Parameters]:
    """The points that are known beforehand; of optuna those that its configs are checked by."""
    if sweep.method == "grid":
        return grid(sweep.axes)
    if sweep.method == "random":
        return [draw(sweep.axes, sweep.seed, index) for index in range(sweep.trials or 0)]
    optuna_search.require()
    return corners(sweep.axes)


def unique(points: Sequence[Parameters], children: Sequence[dict[str, Any]]) -> list[tuple[Parameters, dict[str, Any]]]:
    """Points with their children, equal children once."""
    pairs: dict[str, tuple[Parameters, dict[str, Any]]] = {}
    for point, child in zip(points, children, strict=True):
        pairs.setdefault(child["name"], (point, child))
    return list(pairs.values())


class Plan:
    """The trials of a sweep that is under way."""

    def __init__(self, folder: SweepFolder, trials: Trials, retries: int, say: Callable[[str], None]) -> None:
        self.folder, self.sweep, self.trials, self.retries, self.say = folder, folder.sweep, trials, retries, say
        self.asked: list[str] = []  # names of the runs that the file as it is now asks for
        self.queue: list[Trial] = []

    def begin(self, points: Sequence[Parameters], children: Sequence[dict[str, Any]]) -> None:
        """Take all points of a grid or of random draws, new ones with the next numbers; of optuna what was begun."""
        if self.sweep.method == "optuna":
            for trial in self.trials.by_name.values():
                self.want(trial)
            return
        for point, child in unique(points, children):
            self.enlist(point, child)
        if len(self.asked) < len(points):
            self.say(f"{len(points) - len(self.asked)} of {len(points)} combinations are equal to others")

    def enlist(self, point: Parameters, child: dict[str, Any]) -> None:
        """The trial of a child, known or new."""
        known = self.trials.by_name.get(child["name"])
        if known is not None and known.science != child["science"]:
            raise RefusedError(f"{child['name']} is the name of two configs. Rename the sweep's file.")
        if known is None:
            self.folder.keep_config(child)
        self.want(known or self.trials.add(child["name"], child["science"], point))

    def want(self, trial: Trial) -> None:
        """Ask for a trial, and run it if it is not completed and has not failed too often."""
        self.asked.append(trial.name)
        if self.wants_run(trial):
            self.queue.append(trial)

    def wants_run(self, trial: Trial) -> bool:
        """Whether a trial is to be started or gone on with. What ended unseen is noted."""
        state = trial.state(self.folder.root)
        if state == "completed":
            if trial.ended != "completed":
                self.note(trial, 0)
            return False
        if state == "failed" and trial.ended is None and not trial.failures:  # while no sweep looked
            self.note(trial, 1)
        return state != "failed" or trial.failures <= self.retries

    def following(self) -> Trial | None:
        """What to start next; null: nothing now."""
        if not self.queue and self.sweep.method == "optuna":
            self.ask()
        return self.queue.pop(0) if self.queue else None

    def ask(self) -> None:
        """Let optuna propose until there is something to run, or the wanted number of trials is reached."""
        wanted = self.sweep.trials or 0
        while not self.queue and len(self.trials.all) < wanted:
            point = optuna_search.ask(self.sweep.axes, self.trials.all, self.sweep.seed, self.sweep.mode)
            [child] = self.folder.resolve([point])
            before = self.trials.by_name.get(child["name"])
            if before is None:
                self.enlist(point, child)
            else:  # it proposes what was tried: known, without another run
                again = self.trials.add(child["name"], child["science"], point)
                self.trials.end(again, before.ended or "waiting", None, before.objective)

    def note(self, trial: Trial, code: int) -> None:
        """Write down how a trial's run ended."""
        run = self.folder.root / trial.name
        state = {0: "completed", 75: "preempted"}.get(code, "failed")
        self.trials.end(trial, state, code, objective_of(run, self.sweep.metric) if state == "completed" else None)

    def ended(self, trial: Trial, code: int) -> None:
        """A child's process has ended: note it, say it, and put a failed one back if it may be retried."""
        self.note(trial, code)
        log = self.folder.path / "logs" / f"{trial.name}.log"
        value = "" if trial.objective is None else f"  {self.sweep.metric} {trial.objective:.6g}"
        self.say(f"{trial.name}  {trial.ended}{value}" + (f"  (see {log})" if trial.ended == "failed" else ""))
        if trial.ended == "failed" and code not in HOPELESS and trial.failures <= self.retries:
            self.say(f"{trial.name}  is tried again")
            self.queue.append(trial)
