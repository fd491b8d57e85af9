"""Who owns a run: exactly one process, and only while it lives."""

import os
import signal
import time

import pytest

from ostinato.core.errors import RefusedError
from ostinato.core.manifest import write_json
from ostinato.experiment.claims import (
    check_fence,
    claim,
    is_alive,
    newest_segment,
    process_start,
    segment_path,
    this_process,
)
from tests.experiment.making import python

SLEEP = "print('ready'); import time; time.sleep(60)"
CLAIM = """
import sys, time, pathlib
from ostinato.experiment.claims import claim, this_process
folder = pathlib.Path(sys.argv[1])
print("ready")
while not (folder / "go").exists(): pass
print(claim(folder, 1, this_process()))
"""


def run_folder(tmp_path, segment):
    (tmp_path / "provenance").mkdir()
    write_json(segment_path(tmp_path, 0), segment)
    write_json(tmp_path / "status.json", {"version": 1, "state": "running"})
    return tmp_path


def test_a_killed_process_is_dead_at_once_even_while_it_is_a_zombie():
    child = python(SLEEP)
    assert child.stdout.readline() == "ready\n"
    assert process_start(child.pid) is not None
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, but nobody has asked how: a zombie
    assert process_start(child.pid) is None
    child.wait()
    assert process_start(child.pid) is None


def test_another_process_with_the_same_id_is_not_the_owner(tmp_path):
    owner = this_process()
    folder = run_folder(tmp_path, owner)
    assert is_alive(folder, 0, owner)
    assert not is_alive(folder, 0, {**owner, "process_start": "1"})


def test_elsewhere_a_heartbeat_younger_than_a_minute_is_life(tmp_path):
    owner = {**this_process(), "host": "another", "boot_id": "another boot"}
    folder = run_folder(tmp_path, owner)
    assert is_alive(folder, 0, owner)
    long_ago = time.time() - 61
    os.utime(folder / "status.json", (long_ago, long_ago))
    assert is_alive(folder, 0, owner)  # its claim is young: it may not have written a status yet
    os.utime(segment_path(folder, 0), (long_ago, long_ago))
    assert not is_alive(folder, 0, owner)
    os.utime(folder / "status.json", (time.time() - 50, time.time() - 50))
    assert is_alive(folder, 0, owner)
    assert sorted(path.name for path in folder.iterdir()) == ["provenance", "status.json"]


def test_this_machine_before_its_last_boot_is_dead_whatever_the_clock_says(tmp_path):
    owner = this_process()
    space = owner["boot_id"].partition(" ")[2]
    if space != "pid:[4026531836]":
        pytest.skip("in a container one cannot know whether another boot id is this machine's")
    rebooted = {**owner, "boot_id": f"00000000-0000 {space}"}
    assert not is_alive(run_folder(tmp_path, rebooted), 0, rebooted)


def test_of_many_claims_at_once_one_wins(tmp_path):
    folder = run_folder(tmp_path, this_process())
    children = [python(CLAIM, folder) for _ in range(6)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    (folder / "go").touch()
    answers = sorted(child.communicate()[0].strip() for child in children)
    assert answers == ["False"] * 5 + ["True"]
    number, segment = newest_segment(folder)
    assert number == 1
    assert segment["pid"] in {child.pid for child in children}
    assert sorted(os.listdir(folder / "provenance")) == ["segment_00000.json", "segment_00001.json"]


def test_where_links_are_missing_a_claim_is_still_exclusive(tmp_path, monkeypatch):
    folder = run_folder(tmp_path, this_process())

    def no_links(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert claim(folder, 1, {"who": "first"})
    assert not claim(folder, 1, {"who": "second"})
    assert newest_segment(folder) == (1, {"who": "first"})


def test_the_old_owner_finds_the_newer_segment(tmp_path):
    folder = run_folder(tmp_path, this_process())
    check_fence(folder, 0)
    assert claim(folder, 1, {"pid": 77, "host": "node5", "started": "2026-11-23T20:21:00Z"})
    with pytest.raises(RefusedError, match="taken over by process 77 on node5 at 2026-11-23T20:21:00Z") as caught:
        check_fence(folder, 0)
    assert caught.value.exit_code == 3
