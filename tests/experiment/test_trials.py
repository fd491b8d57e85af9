"""`trials.jsonl`: appended to, read back after anything, held by one process."""

import math

import pytest

from ostinato.core.errors import RefusedError, UserError
from ostinato.experiment.trials import Trial, Trials, best_first, objective_of, read_trials
from tests.experiment.making import start_run


def test_trials_are_read_back_as_they_were_written(tmp_path):
    path = tmp_path / "trials.jsonl"
    trials = Trials(path)
    first = trials.add("lr-00000001", "1" * 64, {"a.b": "1e-4"})
    second = trials.add("lr-00000002", "2" * 64, {"a.b": "3e-4"})
    trials.end(first, "failed", 1, None)
    trials.end(first, "completed", 0, 0.5)
    trials.end(second, "completed", 0, math.nan)
    trials.close()
    found = read_trials(path)
    assert found[0] == Trial(0, "lr-00000001", "1" * 64, {"a.b": "1e-4"}, failures=1, ended="completed", objective=0.5)
    assert math.isnan(found[1].objective)
    assert [trial.name for trial in best_first(found, "max")] == ["lr-00000001", "lr-00000002"]


def test_a_torn_line_is_cut_off_and_the_next_trial_gets_its_number(tmp_path):
    path = tmp_path / "trials.jsonl"
    trials = Trials(path)
    trials.add("x-1", "1", {})
    trials.close()
    path.write_bytes(path.read_bytes() + b'{"kind":"trial","trial":1,"na')
    trials = Trials(path)
    assert trials.add("x-2", "2", {}).number == 1
    trials.close()
    assert [trial.name for trial in read_trials(path)] == ["x-1", "x-2"]


@pytest.mark.parametrize("line", [b"{}", b"[]", b"nothing", b'{"kind":"trial","trial":7,"name":"a","science":"b"}',
                                  b'{"kind":"end","trial":0,"state":"failed","objective":null}'])  # fmt: skip
def test_a_damaged_line_is_refused_with_its_place(tmp_path, line):
    path = tmp_path / "trials.jsonl"
    path.write_bytes(line + b"\n")
    with pytest.raises(RefusedError, match=r"trials.jsonl:1: no line of a sweep"):
        read_trials(path)


def test_a_sweep_is_run_by_one_process(tmp_path):
    trials = Trials(tmp_path / "trials.jsonl")
    with pytest.raises(UserError, match="is being run by another process"):
        Trials(tmp_path / "trials.jsonl")
    trials.close()


def test_best_first_puts_what_has_no_value_last():
    values = [2.0, None, math.nan, 1.0, 3.0]
    trials = [Trial(number, str(number), "", {}, objective=value) for number, value in enumerate(values)]
    assert [trial.number for trial in best_first(trials, "min")] == [3, 0, 4, 1, 2]
    assert [trial.number for trial in best_first(trials, "max")] == [4, 0, 3, 1, 2]


def test_the_objective_is_the_last_value_that_counts(tmp_path):
    run = start_run(tmp_path)
    for step in (1, 2):
        run.metrics.write({"kind": "eval", "step": step, "validation/loss": 3.0 - step})
    run.metrics.write({"kind": "rewind", "step": 1})
    assert objective_of(run.folder, "validation/loss") == 2.0  # that of step 2 was taken back
    assert objective_of(run.folder, "nothing") is None
    run.finish("completed")
