"""Verdicts, tolerances, causes and intervals, by hand."""

import pytest

from ostinato.experiment.drift import environment_drift, install_line
from ostinato.experiment.prediction import group_of, like_its_group, prediction_interval
from ostinato.experiment.reproduction import (
    FOUND_NOTHING,
    Tensors,
    is_met,
    likely_causes,
    required_level,
    verdict,
)
from ostinato.experiment.row_differences import RowDifference, RowsCompared, Tolerance, compare_rows, keyed
from tests.experiment.making import start_run


def row(step, kind="train", **values):
    return {"kind": kind, "step": step, "segment": 0, "time": 1.0, "perf": {"seconds": step}, **values}


def test_time_segment_and_perf_do_not_count():
    a = keyed([row(1, loss=0.5), row(2, loss=0.25), row(2, "eval", **{"validation/loss": "nan"})])
    b = keyed([{**r, "time": 9.0, "segment": 3, "perf": {}} for r in a.values()])
    assert compare_rows(a, b) == RowsCompared(2, 1, None, None)


def test_the_first_field_that_differs_and_the_first_beyond_tolerance():
    a = keyed([row(1, loss=1.0), row(2, loss=1.0), row(3, loss=1.0, tokens=7)])
    b = keyed([row(1, loss=1.0), row(2, loss=1.0005), row(3, loss=1.0, tokens=8)])
    compared = compare_rows(a, b)
    assert compared.first == RowDifference(2, "train", "loss", 1.0, 1.0005)
    assert compared.first_beyond == RowDifference(3, "train", "tokens", 7, 8)
    assert compare_rows(a, b, until=2).first_beyond is None
    assert compare_rows(a, b, until=1) == RowsCompared(1, 0, None, None)


@pytest.mark.parametrize(
    ("a", "b", "near"),
    [
        (1.0, 1.001, True),  # |a - b| = 1e-3 <= 1e-5 + 1e-3 * 1.001
        (1.0, 1.0012, False),
        (0.0, 1e-5, True),
        (0.0, 2e-5, False),
        (0, 1e-6, True),  # an int stands for a float
        (1000, 1001, False),  # integers are equal or not
        ("nan", "nan", True),
        ("nan", 1.0, False),
        ("inf", "-inf", False),
        ("fc9d", "fc9e", False),
        (None, 1.0, False),
        (True, 1.0, True),
        (True, 0.9999, False),
    ],
)
def test_tolerance(a, b, near):
    assert Tolerance().near(a, b) is near


DIFFERENT = RowDifference(2, "train", "loss", 1.0, 2.0)


@pytest.mark.parametrize(
    ("first", "beyond", "differing", "like", "expected"),
    [
        (None, None, [], False, "BITWISE"),
        (None, None, ["model/w"], False, "WITHIN TOLERANCE"),  # the rows do not show it
        (DIFFERENT, None, [], False, "WITHIN TOLERANCE"),
        (DIFFERENT, DIFFERENT, [], True, "STATISTICAL"),
        (DIFFERENT, DIFFERENT, [], False, "DIVERGED"),
    ],
)
def test_verdict(first, beyond, differing, like, expected):
    assert verdict(RowsCompared(3, 0, first, beyond), Tensors(2, 5, differing), like) == expected


def test_without_a_common_checkpoint_rows_decide():
    assert verdict(RowsCompared(3, 0, None, None), None, False) == "BITWISE"


def test_what_is_required():
    assert required_level(None, "deterministic", False) == "bitwise"
    assert required_level(None, "deterministic", True) == "tolerance"
    assert required_level(None, "fast", False) == "tolerance"
    assert required_level("statistical", "deterministic", False) == "statistical"
    assert is_met("BITWISE", "statistical") and is_met("WITHIN TOLERANCE", "tolerance")
    assert not is_met("WITHIN TOLERANCE", "bitwise") and not is_met("DIVERGED", "statistical")


def test_causes_are_ranked():
    found = {
        "packages": [{"name": "numpy", "a": "1.0", "b": "2.0"}],
        "config": [{"name": "training.learning_rate", "a": 1, "b": 2}, {"name": "data.train.path", "a": "x", "b": "y"}],
        "code": [{"role": "project", "files": [{"path": "a.py", "change": "changed"}], "problem": None}],
        "data": [{"name": "sources.train.content", "a": "0a", "b": "0b"}],
    }
    told = [c["cause"] for c in likely_causes(["training.learning_rate=2"], found, ["fast numerics"], None)]
    assert told == [
        "-o training.learning_rate=2",  # and not once more as config
        "config: data.train.path: x -> y",
        "code of project: a.py changed",
        "data: sources.train.content: 0a -> 0b",
        "packages: numpy: 1.0 -> 2.0",
        "fast numerics",
    ]
    first = RowDifference(1, "train", "data", "0a", "0b")
    assert likely_causes([], found, [], first)[0]["kind"] == "data"
    assert likely_causes([], {}, [], None) == [{"kind": "none", "cause": FOUND_NOTHING}]


def test_drift_is_what_a_rerun_cannot_be_given():
    packages = {"numpy": "1.0", "gone": "2.1+cpu", "mine": "0.1 editable", "same": "3"}
    before = {"python": "CPython 3.11.7", "packages": packages, "threads": {"intra": 8, "inter": 2}, "devices": ["A"]}
    now = {
        "python": "CPython 3.11.7",
        "packages": {"numpy": "1.1", "same": "3", "new": "1"},
        "threads": {"intra": 1, "inter": 4},  # intra is set as recorded
        "devices": ["B"],
        "variables": {"OMP_NUM_THREADS": "4"},  # so are the variables
    }
    drift = environment_drift(before, now)
    assert [(e["kind"], e["name"]) for e in drift] == [
        ("packages", "numpy"),
        ("packages", "gone"),
        ("hardware", "devices"),
        ("threads", "threads.inter"),
    ]
    assert install_line(drift) == "pip install numpy==1.0 gone==2.1+cpu"
    assert install_line(drift[2:]) is None
    assert environment_drift(before, before) == []


def test_prediction_interval_by_hand():
    # mean 2, s = 1, t(0.975, 2) = 4.303, sqrt(1 + 1/3) = 1.154701
    low, high = prediction_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.968677, 2 + 4.968677), abs=1e-5)


def test_a_rerun_is_like_its_group_or_not(tmp_path):
    for number, loss in enumerate([1.0, 1.1, 0.9, 1.6, 1.2]):
        run = start_run(tmp_path, f"experiment.seed={number}", name=f"run{number}")
        run.metrics.write({"kind": "eval", "step": 3, "validation/loss": loss})
        run.finish("completed")
    root = tmp_path / "experiments"
    rerun, odd = root / "run4", root / "run3"
    assert [run.name for run in group_of(rerun)] == [f"run{n}" for n in range(5)]
    group = [root / f"run{n}" for n in range(3)]  # 1.0 +- 4.303 * 0.1 * 1.1547 = [0.503, 1.497]
    assert like_its_group(rerun, group)[0]
    assert like_its_group(odd, group) == (False, "validation/loss 1.6 is not in [0.503132, 1.49687], from 3 runs")
    assert like_its_group(rerun, group[:2])[1].startswith("2 completed runs of its group, 3 are needed")
