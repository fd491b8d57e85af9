"""The sweep's file: every form of a parameter, and what is said to those that are none."""

import math

import pytest

from ostinato.core.errors import UserError
from ostinato.experiment.search_space import Axis, Choice, Interval, corners, draw, grid
from ostinato.experiment.sweep_file import read_sweep


def sweep_of(tmp_path, text):
    path = tmp_path / "lr.yaml"
    path.write_text(text, "utf-8")
    return read_sweep(path)


def test_a_grid_has_every_combination_the_last_parameter_fastest_values_as_spelled(tmp_path):
    sweep = sweep_of(tmp_path, "config: a.yaml\nparameters:\n  x.a: [1e-4, '0 1', null]\n  y.b:\n    - [0.9, 0.95]\n"
                               "    - {name: lion}  # a comment\n")  # fmt: skip
    assert (sweep.name, sweep.config, sweep.method, sweep.trials) == ("lr", "a.yaml", "grid", None)
    assert grid(sweep.axes) == [
        {"x.a": "1e-4", "y.b": "[0.9, 0.95]"}, {"x.a": "1e-4", "y.b": "{name: lion}"},
        {"x.a": "'0 1'", "y.b": "[0.9, 0.95]"}, {"x.a": "'0 1'", "y.b": "{name: lion}"},
        {"x.a": "null", "y.b": "[0.9, 0.95]"}, {"x.a": "null", "y.b": "{name: lion}"},
    ]  # fmt: skip


def test_a_zip_group_varies_together(tmp_path):
    sweep = sweep_of(tmp_path, "config: a\nparameters: {a: [1, 2], s: [7, 8], b: {choice: [3, 4]}}\nzip: [[a, b]]\n")
    assert grid(sweep.axes) == [
        {"a": "1", "b": "3", "s": "7"}, {"a": "1", "b": "3", "s": "8"},
        {"a": "2", "b": "4", "s": "7"}, {"a": "2", "b": "4", "s": "8"},
    ]  # fmt: skip
    assert draw(sweep.axes, 0, 0)["a"] + draw(sweep.axes, 0, 0)["b"] in ("13", "24")


def test_draws_depend_on_seed_index_and_name_alone(tmp_path):
    head = "config: a\nmethod: random\nobjective: {metric: reward/mean, mode: max, trials: 3}\nseed: 5\n"
    sweep = sweep_of(tmp_path, head + "parameters: {w: {integer: [64, 512], log: true}, d: {uniform: [0, 0.3]}}\n")
    assert (sweep.metric, sweep.mode, sweep.trials, sweep.seed) == ("reward/mean", "max", 3, 5)
    wider = sweep_of(tmp_path, head + "parameters: {n: [1, 2], d: {uniform: [0, 0.3]}}\n")
    first = [draw(sweep.axes, 5, index) for index in range(200)]
    assert first == [draw(sweep.axes, 5, index) for index in range(200)]
    assert [point["d"] for point in first] == [draw(wider.axes, 5, index)["d"] for index in range(200)]
    assert first != [draw(sweep.axes, 6, index) for index in range(200)]
    widths, drops = [int(point["w"]) for point in first], [float(point["d"]) for point in first]
    assert min(widths) >= 64 and max(widths) <= 512 and min(drops) >= 0 and max(drops) <= 0.3
    below_middle = sum(width < math.sqrt(64 * 512) for width in widths)  # half of them, if log
    assert 80 <= below_middle <= 120


def test_both_ends_of_an_integer_are_drawn():
    axis = Axis(("n",), Interval(1, 3, False, True))
    assert {draw([axis], 0, index)["n"] for index in range(50)} == {"1", "2", "3"}


def test_corners_touch_every_choice_and_both_ends():
    axes = [Axis(("a",), Choice((("x",), ("y",), ("z",)))), Axis(("b",), Interval(1e-5, 0.1, True, False))]
    assert corners(axes) == [{"a": "x", "b": "1e-05"}, {"a": "y", "b": "0.1"}, {"a": "z", "b": "1e-05"}]


WRONG = [
    ("", "expected a map"),
    ("config: a\n", "no parameters"),
    ("config: a\nparameters: {}\n", "lr.yaml:2: no parameters"),
    ("config: a\nparameter: {a: [1]}\n", "unknown key 'parameter'. Did you mean parameters?"),
    ("config: a\nparameters: {a: [1], a: [2]}\n", "a is written twice"),
    ("config: a\nparameters: {a: 3}\n", "lr.yaml:2: expected a map"),
    ("config: a\nparameters: {a: []}\n", "a: expected a list of values with at least one"),
    ("config: a\nparameters: {a: {uniform: [0, 1]}}\n", "a grid wants a list of values"),
    ("config: a\nmethod: gird\nparameters: {a: [1]}\n", "lr.yaml:2: method: 'gird'"),
    ("config: a\nmethod: random\nparameters: {a: [1]}\n", "needs a number of trials"),
    ("config: a\nmethod: random\nobjective: {trials: 0}\nparameters: {a: [1]}\n", "objective.trials: 0"),
    ("config: a\nobjective: {mode: most}\nparameters: {a: [1]}\n", "objective.mode: 'most'"),
    ("config: a\nmethod: random\nobjective: {trials: 2}\nparameters: {a: {uniform: [0, 1], log: true}}\n", "0 < a < b"),
    ("config: a\nmethod: random\nobjective: {trials: 2}\nparameters: {a: {integer: [1.5, 3]}}\n", "two numbers"),
    ("config: a\nmethod: random\nobjective: {trials: 2}\nparameters: {a: {normal: [0, 1]}}\n", "unknown key 'normal'"),
    ("config: a\nparameters: {a: [1, 2], b: [1]}\nzip: [[a, b]]\n", "lists of different lengths"),
    ("config: a\nparameters: {a: [1, 2]}\nzip: [[a, c]]\n", "zip: c is no parameter"),
    ("config: [a\n", "is no YAML"),
    ("config: 3\nparameters: {a: [1]}\n", "config: expected the path"),
    ("config: a\nobjective: [1]\nparameters: {a: [1]}\n", "lr.yaml:2: expected a map"),
    ("config: a\nslurm: 3\nparameters: {a: [1]}\n", "lr.yaml:2: expected a map"),
    ("config: a\nseed: x\nparameters: {a: [1]}\n", "lr.yaml:2: seed: 'x'"),
]


@pytest.mark.parametrize("text, message", WRONG)
def test_a_mistake_names_its_line_and_the_remedy(tmp_path, text, message):
    with pytest.raises(UserError) as caught:
        sweep_of(tmp_path, text)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2
