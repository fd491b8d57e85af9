"""The parts of a sweep that need no child: what is asked for, how the machine is shared out, who is waited for."""

from pathlib import Path

import pytest

from ostinato.cli.sweep_jobs import Child, device_of, threads_of
from ostinato.cli.sweep_plan import points_of, unique
from ostinato.core.errors import UserError
from ostinato.experiment.search_space import draw
from ostinato.experiment.sweep_file import read_sweep
from ostinato.experiment.sweep_folder import find
from ostinato.experiment.trials import Trial
from tests.experiment.making import start_run


def test_a_random_sweep_asks_for_its_draws_and_more_trials_change_none(tmp_path):
    path = tmp_path / "lr.yaml"
    text = "config: a\nmethod: random\nseed: 4\nobjective: {trials: %d}\nparameters: {a.b: {uniform: [0, 1]}}\n"
    path.write_text(text % 3)
    three = points_of(read_sweep(path))
    path.write_text(text % 5)
    five = points_of(read_sweep(path))
    assert five[:3] == three == [draw(read_sweep(path).axes, 4, index) for index in range(3)]
    assert len({point["a.b"] for point in five}) == 5


def test_of_equal_children_the_first_point_stays():
    children = [{"name": "x-1"}, {"name": "x-2"}, {"name": "x-1"}]
    assert unique([{"a": "1e-3"}, {"a": "2"}, {"a": "0.001"}], children) == [
        ({"a": "1e-3"}, {"name": "x-1"}), ({"a": "2"}, {"name": "x-2"}),
    ]  # fmt: skip


def test_devices_that_are_named_are_shared_out(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [device_of(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["2", "5", "2"]
    for single in ("3", ""):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", single)
        assert device_of(1) == {}


def test_cores_are_shared_out_and_a_smaller_wish_is_kept(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_of(jobs) for jobs in (1, 2, 3, 9)] == [{}, *({"OMP_NUM_THREADS": n} for n in ("4", "2", "1"))]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_of(2) == {"OMP_NUM_THREADS": "3"}


def test_a_child_of_an_earlier_sweep_is_waited_for_while_its_process_lives(tmp_path):
    run = start_run(tmp_path)
    child = Child(Trial(0, "exp001", "", {}), run.folder, None, 0)
    assert child.exit_code() is None
    run.finish("preempted", signal=15, exit_code=75)
    assert child.exit_code() == 75


@pytest.mark.parametrize("name", ["my sweep", "-x", "x" * 95, "ä"])
def test_a_file_name_that_gives_no_name_for_runs_is_a_mistake(tmp_path, name):
    path = tmp_path / f"{name}.yaml"
    path.write_text("config: a\nparameters: {a: [1]}\n")
    with pytest.raises(UserError, match="Rename the file"):
        find(read_sweep(Path(path)))
