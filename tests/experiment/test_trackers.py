"""Trackers that hang, raise, are too slow: training does not notice, and the run says what happened."""

import threading
import time

import pytest

from ostinato.experiment.reading import read_rows
from ostinato.experiment.tracker_feed import TrackerFeed
from ostinato.experiment.tracker_rows import scalars
from ostinato.experiment.tracker_thread import TrackerThread
from ostinato.experiment.trackers.tensorboard import TensorBoard
from tests.experiment.making import config_of, start_run


class Collector:
    def __init__(self):
        self.rows, self.closed = [], False

    def log(self, row):
        self.rows.append(row)

    def close(self):
        self.closed = True


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


def thread_of(tracker, off, **options):
    return TrackerThread("mine", lambda: tracker, lambda *what: off.append(what), **options)


def test_rows_arrive_in_order_and_the_tracker_is_closed():
    tracker, off = Collector(), []
    thread = thread_of(tracker, off)
    for step in range(100):
        thread.put({"step": step})
    thread.begin_close()
    thread.wait_closed(time.monotonic() + 10)
    assert [row["step"] for row in tracker.rows] == list(range(100))
    assert (tracker.closed, off, thread.dropped) == (True, [], 0)


def test_a_hanging_tracker_is_switched_off_and_its_oldest_rows_dropped():
    hang, off = threading.Event(), []
    tracker = Collector()
    tracker.log = lambda row: hang.wait()
    thread = thread_of(tracker, off, capacity=5, stall_seconds=1.0)
    thread.put({"step": 0})
    wait_until(lambda: len(thread._rows) == 0)  # row 0 is being logged
    start = time.monotonic()
    for step in range(1, 9):
        thread.put({"step": step})
    assert time.monotonic() - start < 1.0  # nobody waited
    assert [row["step"] for row in thread._rows] == [4, 5, 6, 7, 8]
    assert thread.dropped == 3
    thread.poll()
    assert off == []
    time.sleep(1.1)
    thread.poll()
    thread.poll()
    assert off == [("mine", "no progress for 1 s", 8)]  # once; 3 dropped and 5 unsent
    thread.put({"step": 9})
    assert len(thread._rows) == 0
    hang.set()


@pytest.mark.parametrize("error", [ValueError("no network"), SystemExit(3)])
def test_a_raising_tracker_is_switched_off(error):
    off = []

    def fail(row):
        raise error

    tracker = Collector()
    tracker.log = fail
    thread = thread_of(tracker, off)
    thread.put({"step": 1})
    wait_until(lambda: off)
    assert off == [("mine", f"{type(error).__name__}: {error}", 0)]
    thread.wait_closed(time.monotonic() + 10)


def test_the_end_waits_for_all_trackers_together_no_longer_than_allowed(tmp_path):
    hang, off = threading.Event(), []
    feed = TrackerFeed(config_of(tmp_path).logging, lambda *what: off.append(what))
    for label in ("a", "b"):
        thread = TrackerThread(label, lambda: hang.wait(), lambda *what: off.append(what))
        thread.put({"step": 1})
        feed.threads.append(thread)
    start = time.monotonic()
    feed.close(seconds=0.3)
    assert 0.25 < time.monotonic() - start < 2
    assert [(label, problem) for label, problem, _ in off] == [(x, "still busy when the run ended") for x in "ab"]
    hang.set()


PLUGIN = """
from ostinato.core.registry import TRACKERS

@TRACKERS.register("broken")
class Broken:
    def __init__(self, folder, run, *, at: int = 1):
        self.at = at
    def log(self, row):
        if row["step"] == self.at:
            raise OSError("the server said no")
    def close(self):
        pass
"""


def test_a_run_goes_on_without_its_broken_tracker(tmp_path, monkeypatch, caplog):
    (tmp_path / "broken_trackers.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    run = start_run(tmp_path, "plugins=[broken_trackers]", "logging.trackers={broken: {at: 2}}")
    for step in range(1, 6):
        run.metrics.write({"step": step, "loss": 1.0})
    wait_until(lambda: run.trackers.threads[0].off)
    run.finish("completed")
    assert [row["step"] for row in read_rows(run.folder, "train")] == [1, 2, 3, 4, 5]
    [event] = read_rows(run.folder, "event")
    assert (event["event"], event["tracker"], event["problem"]) == (
        "tracker_off", "broken", "OSError: the server said no",
    )  # fmt: skip
    assert caplog.text.count("tracker broken is switched off") == 1


def test_rows_become_scalars():
    row = {"kind": "train", "step": 3, "segment": 0, "time": 1.0, "loss": 2.0, "note": "text", "bad": "nan",
           "data": "ab", "perf": {"seconds": 0.5, "mfu": None}}  # fmt: skip
    found = scalars(row)
    assert str(found.pop("train/bad")) == "nan"
    assert found == {"train/loss": 2.0, "perf/seconds": 0.5}
    assert scalars({"kind": "eval", "step": 1, "time": 1.0, "validation/loss": 1.5}) == {"validation/loss": 1.5}


def test_tensorboard_reads_what_was_written_and_a_resume_hides_the_old_tail(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    first = TensorBoard(tmp_path, {"resumed_from": None})
    for step in (1, 2, 3):
        first.log({"kind": "train", "step": step, "time": 100.0 + step, "loss": 1.0 / step})
    first.close()
    time.sleep(1.1)  # event files are told apart by the second
    second = TensorBoard(tmp_path, {"resumed_from": 1})
    second.log({"kind": "train", "step": 2, "time": 200.0, "loss": 7.0})
    second.close()
    read = accumulator.EventAccumulator(str(tmp_path / "logs" / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in read.Scalars("train/loss")] == [(1, 1.0), (2, 7.0)]
