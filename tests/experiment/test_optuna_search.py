"""optuna's proposals are a function of what is written down."""

import pytest

from ostinato.experiment.optuna_search import ask
from ostinato.experiment.search_space import Axis, Choice, Interval
from ostinato.experiment.trials import Trial, Trials, read_trials

pytest.importorskip("optuna", reason="optuna is not installed: pip install 'ostinato[sweep]'")
AXES = [
    Axis(("rate",), Interval(1e-4, 1.0, True, False)),
    Axis(("width",), Interval(1, 64, False, True)),
    Axis(("name", "decay"), Choice((("adamw", "0.1"), ("lion", "0.3")))),
]


def value(point):
    return abs(float(point["rate"]) - 0.05) + (point["name"] == "lion")


def search(path, count):
    """Ask and tell until there are `count` trials, with nothing in memory between two asks."""
    while len(known := read_trials(path)) < count:
        point = ask(AXES, known, seed=3, mode="min")
        trials = Trials(path)
        trials.end(trials.add(f"x-{len(known)}", str(len(known)), point), "completed", 0, value(point))
        trials.close()
    return [trial.parameters for trial in read_trials(path)]


def test_a_search_that_was_interrupted_ends_as_one_that_was_not(tmp_path):
    whole = search(tmp_path / "whole.jsonl", 25)
    search(tmp_path / "halves.jsonl", 11)
    assert search(tmp_path / "halves.jsonl", 25) == whole
    assert {point["name"] + point["decay"] for point in whole} == {"adamw0.1", "lion0.3"}
    assert min(map(value, whole[10:])) < min(map(value, whole[:10]))  # it learns


def test_failures_running_trials_and_other_axes_are_told_as_what_they_are():
    point = {"rate": "0.01", "width": "3", "name": "lion", "decay": "0.3"}
    known = [
        Trial(0, "a", "", point, ended="failed"), Trial(1, "b", "", point), Trial(2, "c", "", {"rate": "0.1"}),
        Trial(3, "d", "", {**point, "width": "1000"}, ended="completed", objective=1.0),
        Trial(4, "e", "", point, ended="completed", objective=float("nan")),
    ]  # fmt: skip
    found = ask(AXES, known, seed=0, mode="max")
    assert found.keys() == point.keys()
    assert found != ask(AXES, known[:2], seed=0, mode="max")
