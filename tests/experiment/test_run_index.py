"""The index of runs is a cache: with it, without it, or with one that is damaged, the same is printed."""

import os
import sqlite3
import subprocess
import sys
import time

import pytest

from ostinato.core.manifest import write_json
from ostinato.experiment import run_index
from ostinato.experiment.listing import summaries
from ostinato.experiment.run_index import RunIndex, index_of
from ostinato.experiment.selecting import matcher
from tests.experiment.test_listing import made_run, write_rows


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache folder, in this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    index_of.cache_clear()
    yield tmp_path / "cache" / "ostinato" / "runs.sqlite"
    index_of.cache_clear()


def listed(root, *more):
    """What `runs list` prints, in a process of its own."""
    columns = ["--columns", "state,step,loss,best(loss),training.learning_rate"]
    command = [sys.executable, "-m", "ostinato", "runs", "list", "--root", str(root), *columns, *more]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_same_is_printed_whatever_becomes_of_the_index(tmp_path, cache):
    root = tmp_path / "experiments"
    made_run(root, "a", losses=[3.0, 1.0, 2.0])
    made_run(root, "b", losses=[5.0], state="failed")
    first = listed(root)
    assert [line.split() for line in first.splitlines()[1:]] == [
        ["a", "completed", "3/10", "2.0000", "1.0000", "3e-05"],
        ["b", "failed", "1/10", "5.0000", "5.0000", "1e-05"],
    ]
    assert sqlite3.connect(cache).execute("SELECT count(*) FROM entries").fetchone() == (6,)
    assert listed(root) == first
    cache.write_bytes(b"no database at all" * 100)
    assert listed(root) == first
    assert listed(root) == first
    cache.unlink()
    assert listed(root) == first
    database = sqlite3.connect(cache)
    database.execute("PRAGMA user_version = 99")
    database.commit()
    assert listed(root) == first
    database.execute("BEGIN EXCLUSIVE")  # another process writes it
    assert listed(root) == first
    database.close()
    cache.unlink()
    cache.parent.rmdir()
    cache.parent.write_text("a file where the folder should be")
    assert listed(root) == first


def test_every_change_is_seen(tmp_path, cache):
    root = tmp_path / "experiments"
    folder = made_run(root, "a", losses=[3.0])

    def now():
        (run,) = summaries(root)
        return run["loss"], run["reason"], matcher("best(loss)<2")(run), matcher("training.learning_rate>5e-5")(run)

    assert now() == (3.0, None, False, False)
    write_rows(folder, [{"kind": "train", "step": step, "loss": 3.0 - step} for step in (1, 2)])
    assert now() == (1.0, None, True, False)
    write_json(folder / "status.json", {"version": 1, "state": "completed", "reason": "disk"}, durable=False)
    assert now() == (1.0, "disk", True, False)
    write_json(folder / "status.json", {"version": 1, "state": "completed", "reason": "host"}, durable=False)
    assert now() == (1.0, "host", True, False)
    (folder / "config.yaml").write_text("training: {learning_rate: 1}")
    assert now() == (1.0, "host", True, True)


def test_a_run_that_died_is_lost_though_its_files_are_the_same(tmp_path, cache):
    """Its owner: this process, then one that is no more."""
    folder = made_run(tmp_path / "experiments", "a", losses=[3.0, 2.0], state="running")
    from ostinato.experiment.claims import segment_path, this_process

    write_json(segment_path(folder, 0), this_process())
    assert summaries(tmp_path / "experiments")[0]["state"] == "running"
    write_json(segment_path(folder, 0), this_process() | {"process_start": "0"})
    (run,) = summaries(tmp_path / "experiments")
    assert (run["state"], run["step"]) == ("lost", 2)


def test_what_is_gone_is_forgotten(tmp_path, cache):
    root = tmp_path / "experiments"
    for name in "ab":
        made_run(root, name, losses=[1.0])
    summaries(root)
    index_of(str(root)).save()
    (root / "a").rename(tmp_path / "a")
    index_of.cache_clear()
    assert [run["name"] for run in summaries(root)] == ["b"]
    index_of(str(root)).save()
    entries = sqlite3.connect(cache).execute("SELECT run FROM entries").fetchall()
    assert entries == [("b",)]
    root.rename(tmp_path / "moved")
    index_of.cache_clear()
    summaries(tmp_path / "moved")
    index_of(str(tmp_path / "moved")).save()
    assert sqlite3.connect(cache).execute("SELECT root, run FROM entries").fetchall() == [
        (str(tmp_path / "moved"), "b")
    ]


def test_nothing_is_stored_of_a_file_that_changes_while_it_is_read(tmp_path, cache):
    index = RunIndex(str(tmp_path), cache)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").write_text("1")

    def make():
        (tmp_path / "run" / "file").write_text("22")
        return 1

    assert index.get(str(tmp_path / "run"), "part", ["file"], make) == 1
    assert index.get(str(tmp_path / "run"), "part", ["file"], lambda: 2) == 2
    assert index.get(str(tmp_path / "run"), "part", ["file"], lambda: 3) == 2


def test_a_thousand_runs_known_from_before_take_a_fifth_of_a_second(tmp_path, cache):
    """Of work, whatever else the machine is doing."""
    root = tmp_path / "experiments"
    for number in range(1000):
        made_run(root, f"run{number:04d}", losses=[1.0] * 40)
    first = summaries(root)
    index_of(str(root)).save()
    index_of.cache_clear()
    start = time.process_time()
    again = summaries(root)
    assert time.process_time() - start < 0.2
    for run in (*first, *again):
        run["age_seconds"] = None
    assert again == first
    assert os.path.getsize(run_index.index_path()) < 2e6
