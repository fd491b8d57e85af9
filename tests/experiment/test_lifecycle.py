"""A run from start to end, killed, resumed, taken over: no row lost, no step doubled, one owner."""

import os
import random
import signal
import subprocess
import time

import pytest

from ostinato.core.errors import OstinatoError, RefusedError, UserError
from ostinato.experiment.claims import claim
from ostinato.experiment.reading import counting, read_json, read_rows, state_of
from ostinato.experiment.resuming import Completed
from ostinato.experiment.run import Run
from ostinato.experiment.run_view import RunView
from ostinato.experiment.status import Heartbeat
from tests.experiment.making import config_of, python, start_run

WRITE = """
import os, sys
from ostinato.core.config import load_config
from ostinato.experiment.run import Run
run = Run.create(load_config(sys.argv[1]), command=["ostinato", "train"], code=False)
run.start()
for step in range(1, 10**9):
    run.status.step = step
    run.metrics.write({"step": step, "loss": 1 / step})
    os.write(1, b"%d\\n" % step)
"""
RESUME = """
import sys, time, pathlib
from ostinato.core.errors import OstinatoError
from ostinato.experiment.run import Run
print("ready")
while not (pathlib.Path(sys.argv[1]).parent / "go").exists(): pass
try:
    run = Run.resume(pathlib.Path(sys.argv[1]), code=False)
except OstinatoError as error:
    print(error)
    sys.exit(error.exit_code)
time.sleep(float(sys.argv[2]))  # alive until the other one has tried
"""


def killed_run(tmp_path, seconds=0.3):
    """A run killed by SIGKILL while it wrote rows; its folder, and the last step whose write had returned."""
    config_of(tmp_path)
    child = python(WRITE, tmp_path / "exp001.yaml")
    assert child.stdout.readline() == "1\n"
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    lines = child.communicate()[0].splitlines()
    assert child.returncode == -signal.SIGKILL
    return tmp_path / "experiments" / "exp001", int((lines or ["1"])[-1])


def test_a_kill_loses_no_row_whose_write_returned(tmp_path):
    for attempt in range(3):
        place = tmp_path / str(attempt)
        place.mkdir()
        folder, last = killed_run(place, random.Random(attempt).uniform(0.01, 0.5))
        steps = [row["step"] for row in read_rows(folder, "train")]
        assert steps[:last] == list(range(1, last + 1))
        assert len(steps) - last in (0, 1)  # the row after may be written, but not yet told
        # The row under way may be torn: Linux ends a write for SIGKILL where a row crosses a page. It is no row then.
        whole, _, torn = (folder / "logs" / "metrics.jsonl").read_bytes().rpartition(b"\n")
        assert whole.count(b"\n") + 1 >= last and (not torn or len(steps) == last)


def test_a_killed_run_is_lost_at_once_and_can_be_resumed(tmp_path):
    folder, last = killed_run(tmp_path)
    assert read_json(folder / "status.json")["state"] == "running"
    assert state_of(folder) == "lost"
    assert RunView(folder).state == "lost"
    resumed = Run.resume(folder, code=False)
    assert resumed.segment == 1
    resumed.start(step=5)
    assert state_of(folder) == "running"
    resumed.metrics.write({"step": 6, "loss": 60.0})
    resumed.finish("completed")
    assert read_json(folder / "provenance" / "segment_00001.json")["resumed_from"] == 5

    view = RunView(folder)
    assert view.metrics()["step"].tolist() == [1, 2, 3, 4, 5, 6]  # none doubled
    assert view.metrics()["loss"].tolist() == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 60.0]
    history = [row["step"] for row in view.history() if row["kind"] == "train"]
    assert history[:last] == list(range(1, last + 1))  # the old tail stays
    assert (view.state, view.step) == ("completed", 6)


def test_of_two_resumes_at_once_one_wins(tmp_path):
    folder, _ = killed_run(tmp_path, 0.01)
    children = [python(RESUME, folder, 3) for _ in range(2)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    (folder.parent / "go").touch()
    outputs = [child.communicate()[0] for child in children]
    codes = [child.returncode for child in children]
    assert sorted(codes) == [0, 2]
    winner = children[codes.index(0)].pid
    assert f"exp001 is running: process {winner} on " in outputs[codes.index(2)]
    assert sorted(name for name in os.listdir(folder / "provenance") if name.startswith("segment")) == [
        "segment_00000.json",
        "segment_00001.json",
    ]


def test_a_running_run_cannot_be_resumed(tmp_path):
    run = start_run(tmp_path)
    with pytest.raises(UserError, match=f"exp001 is running: process {os.getpid()} on .* last heartbeat 0 s ago"):
        Run.resume(run.folder, code=False)
    run.finish("completed")


def test_a_completed_run_says_so_and_exits_0(tmp_path):
    run = start_run(tmp_path)
    run.finish("completed")
    with pytest.raises(Completed, match="exp001 is completed") as caught:
        Run.resume(run.folder, code=False)
    assert caught.value.exit_code == 0


def stopped_run(tmp_path):
    run = start_run(tmp_path)
    run.finish("interrupted", signal=2, exit_code=75)
    return run.folder


def test_another_question_is_refused_with_the_keys_and_the_remedy(tmp_path):
    folder = stopped_run(tmp_path)
    other = config_of(tmp_path, "training.learning_rate=0.5", "experiment.seed=3", "logging.log_interval=2")
    with pytest.raises(UserError) as caught:
        Run.resume(folder, other, code=False)
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert "training.learning_rate: 0.5, but the run has 0.0003" in message
    assert "experiment.seed: 3, but the run has 0" in message
    assert "log_interval" not in message  # that would have been fine
    assert "-o model.init_from=run:exp001" in message
    assert sorted(os.listdir(folder / "provenance")) == sorted(
        os.listdir(stopped_run_of_another(tmp_path) / "provenance")
    )


def stopped_run_of_another(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    return stopped_run(other)


def test_what_is_no_part_of_the_question_is_applied_and_recorded(tmp_path):
    folder = stopped_run(tmp_path)
    frozen = (folder / "config.yaml").read_text()
    run = Run.resume(folder, config_of(tmp_path, "logging.save_interval=7"), code=False)
    assert run.config.logging.save_interval == 7
    assert read_json(folder / "provenance" / "segment_00001.json")["config_changes"] == [
        {"key": "logging.save_interval", "old": 500, "new": 7}
    ]
    assert (folder / "config.yaml").read_text() == frozen
    run.finish("completed")


def test_a_torn_last_line_is_cut_off_and_kept_in_an_event(tmp_path):
    folder = stopped_run(tmp_path)
    path = folder / "logs" / "metrics.jsonl"
    whole = path.read_bytes() + b'{"kind":"train","step":1,"segment":0,"time":1.0,"loss":2.0}\n'
    path.write_bytes(whole + b'{"kind":"train","step":2,"lo')
    assert [row["step"] for row in read_rows(folder, "train")] == [1]
    run = Run.resume(folder, code=False)
    run.finish("completed")
    assert path.read_bytes().startswith(whole + b'{"kind":"event"')
    events = [row for row in read_rows(folder, "event") if row["event"] == "torn_line"]
    assert [event["fragment"] for event in events] == ['{"kind":"train","step":2,"lo']


def test_a_run_that_was_taken_over_writes_nothing_more(tmp_path):
    run = start_run(tmp_path)
    run._heartbeat.stop()
    run._heartbeat = Heartbeat(run.status, run.check_fence, run._fenced, run._regularly, seconds=0.02)
    assert claim(run.folder, 1, {"pid": 77, "host": "node5", "started": "now"})
    deadline = time.monotonic() + 10
    while run.metrics.closed_by is None and time.monotonic() < deadline:
        time.sleep(0.01)
    before = {path: path.read_bytes() for path in run.folder.rglob("*.json*")}
    with pytest.raises(RefusedError, match="taken over by process 77") as caught:
        run.metrics.write({"step": 1, "loss": 1.0})
    assert caught.value.exit_code == 3
    with pytest.raises(RefusedError):
        run.record(numerics="fast")
    run.status.update(step=4)
    run.finish("failed", reason="taken over")
    assert {path: path.read_bytes() for path in run.folder.rglob("*.json*")} == before


def test_the_heartbeat_tells_the_step_and_survives_what_it_calls(tmp_path):
    run = start_run(tmp_path)
    run._heartbeat.stop()
    calls = []

    def broken(seconds):
        calls.append(seconds)
        raise ValueError("in the heartbeat")

    beat = Heartbeat(run.status, run.check_fence, run._fenced, broken, seconds=0.02)
    run.status.step = 9
    deadline = time.monotonic() + 10
    while len(calls) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    beat.stop()
    status = read_json(run.folder / "status.json")
    assert (status["state"], status["step"], status["total_steps"]) == ("running", 9, 10)
    assert status["heartbeat"] >= 3
    run.finish("completed")


def test_a_full_disk_stops_nobody_and_loses_nothing(tmp_path, caplog, capsys):
    disk = tmp_path / "experiments"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        run = start_run(tmp_path)
        with open(disk / "ballast", "wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(b"x" * 512)
        for step in range(1, 301):
            run.status.step = step
            run.metrics.write({"step": step, "loss": 1.0, "text": "x" * 100})
        run.event("stop_requested", 300)
        run.status.update(last_checkpoint=300)
        run.status.update(last_checkpoint=301)
        assert run.metrics.pending > 0
        with pytest.raises(OSError, match="No space left"):
            run.metrics.sync()  # so no checkpoint is committed before its rows are safe
        (disk / "ballast").unlink()
        run.finish("completed")
        assert [row["step"] for row in read_rows(run.folder, "train")] == list(range(1, 301))
        status = read_json(run.folder / "status.json")
        assert (status["state"], status["step"], status["last_checkpoint"]) == ("completed", 300, 301)
        assert caplog.text.count("status.json cannot be written") == 1
        assert caplog.text.count("metrics.jsonl cannot be written") == 1
        assert list(run.folder.glob(".*")) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_failure_is_in_the_status_and_its_traceback_in_the_log(tmp_path):
    run = start_run(tmp_path)
    run.status.step = 4
    try:
        raise ValueError("cannot reach https://me:hunter2@host/x")
    except ValueError as error:
        run.finish("failed", reason="exception", exit_code=1, error=error)
    status = read_json(run.folder / "status.json")
    assert (status["state"], status["reason"], status["exit_code"]) == ("failed", "exception", 1)
    error = status["error"]
    assert (error["type"], error["message"]) == ("ValueError", "cannot reach https://***@host/x")
    assert (error["file"], error["step"]) == (__file__, 4)
    log = (run.folder / "logs" / "train.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert 'raise ValueError("cannot reach' in log
    assert "hunter2" not in log
    resumed = Run.resume(run.folder, code=False)
    assert read_json(run.folder / "status.json")["error"] is None
    resumed.finish("completed")


def test_saved_checkpoints_become_events_and_the_status(tmp_path):
    run = start_run(tmp_path)
    run.event("checkpoint_saved", 3, path="step_00000003")
    assert read_json(run.folder / "status.json")["last_checkpoint"] == 3
    run.finish("preempted", signal=15, exit_code=75)
    resumed = Run.resume(run.folder, code=False)
    assert read_json(run.folder / "status.json")["last_checkpoint"] == 3
    resumed.finish("completed")
    [event] = read_rows(run.folder, "event")
    assert {k: event[k] for k in ("event", "step", "segment", "path")} == {
        "event": "checkpoint_saved", "step": 3, "segment": 0, "path": "step_00000003",
    }  # fmt: skip


def test_the_environment_is_compared_on_resume(tmp_path):
    run = start_run(tmp_path)
    run.record_environment({"torch": "2.13.0", "threads": {"intra": 2, "inter": 1}})
    run.finish("interrupted")
    same = Run.resume(run.folder, code=False)
    assert same.record_environment({"torch": "2.13.0", "threads": {"intra": 2, "inter": 1}}) == []
    same.finish("interrupted")
    other = Run.resume(run.folder, code=False)
    changes = other.record_environment({"torch": "2.13.0", "threads": {"intra": 4, "inter": 1}})
    other.finish("completed")
    assert changes == [{"name": "threads.intra", "old": 2, "new": 4}]
    assert sorted(path.name for path in (run.folder / "provenance").glob("environment*")) == [
        "environment.json",
        "environment_00002.json",
    ]
    [event] = read_rows(run.folder, "event")
    assert (event["event"], event["segment"], event["changes"]) == ("environment_changed", 2, changes)


def test_rows_count_unless_a_later_rewind_went_behind_them():
    def row(kind, step, name):
        return {"kind": kind, "step": step, "name": name}

    rows = [
        row("train", 1, "a"), row("train", 2, "b"), row("eval", 2, "c"), row("train", 3, "d"), row("event", 3, "e"),
        row("rewind", 2, "f"), row("train", 3, "g"), row("train", 4, "h"),
        row("rewind", 3, "i"), row("train", 4, "j"),
    ]  # fmt: skip
    assert "".join(kept["name"] for kept in counting(rows)) == "abcefgij"
    assert "".join(kept["name"] for kept in counting([*rows, row("rewind", 0, "k")])) == "efik"


def test_only_our_own_errors_carry_an_exit_code(tmp_path):
    (tmp_path / "experiments" / "exp001").mkdir(parents=True)
    with pytest.raises(OstinatoError, match=r"metadata.json cannot be read") as caught:
        Run.resume(tmp_path / "experiments" / "exp001")
    assert caught.value.exit_code == 3
