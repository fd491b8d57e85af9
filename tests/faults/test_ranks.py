"""Several ranks under `ostinato launch`: killed or stopped, resumed, the same bits; a failure ends all of them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.processes import result, rows
from tests.training.tiny import write_config

OPTIONS = ["-o", "training.total_steps=12", "-o", "training.micro_batch_size=3", "-o", "logging.save_interval=2"]


def launch(config: Path, name: str, log: Path, *more: str, ranks: int = 2) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ostinato", "launch", str(config), "--nproc", str(ranks), "--name", name]
    with log.open("ab") as file:
        return subprocess.Popen([*command, *OPTIONS, *more], stdout=file, stderr=file)


def wait_for_step(run: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < end:
        if any(row["kind"] == "train" and row["step"] >= step for row in rows(run)):
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} was not reached")


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "ranks"), [("ddp", 2), ("ddp", 4), ("fsdp", 2)])
def test_killed_or_stopped_ranks_resume_exactly(tmp_path: Path, strategy: str, ranks: int) -> None:
    config, log = write_config(tmp_path, "sft", f"distributed: {{strategy: {strategy}}}"), tmp_path / "log"
    whole, broken = tmp_path / "experiments" / "whole", tmp_path / "experiments" / "broken"
    assert launch(config, "whole", log, ranks=ranks).wait(120) == 0, log.read_text()

    process = launch(config, "broken", log, ranks=ranks)
    wait_for_step(broken, 4, process)
    process.kill()  # the launcher; the ranks die with it
    process.wait()

    process = launch(config, "broken", log, "--resume", ranks=ranks)
    wait_for_step(broken, 7, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75, log.read_text()
    assert launch(config, "broken", log, "--resume", ranks=ranks).wait(120) == 0, log.read_text()
    assert result(broken) == result(whole)


def test_a_mistake_is_said_once_with_exit_code_2(tmp_path: Path) -> None:
    config, log = write_config(tmp_path, "sft"), tmp_path / "log"
    process = launch(config, "wrong", log, "-o", "training.batch_size=7")
    assert process.wait(60) == 2
    text = log.read_text()
    assert text.count("is no multiple of the 2 data-parallel ranks") == 1 and "Traceback" not in text
    assert not (tmp_path / "experiments").exists()


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_group_in_bounded_time(tmp_path: Path) -> None:
    config, log = write_config(tmp_path, "pretrain"), tmp_path / "log"
    run = tmp_path / "experiments" / "dies"
    process = launch(config, "dies", log, "-o", "training.total_steps=100000")
    wait_for_step(run, 3, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    assert process.wait(60) != 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]  # nobody is left behind
