"""A run that hangs is ended in bounded time, with every stack in its log; a run that started from another pins it."""

import json
import os
import signal
import time
from pathlib import Path

from ostinato.cli.watchdog import Watchdog
from tests.faults.processes import finish, start, wait_for_rows
from tests.training.tiny import write_config

SLEEPER = """
import time
from ostinato.algorithms.pretrain import Pretrain
from ostinato.core.registry import ALGORITHMS

@ALGORITHMS.register("sleeper")
class Sleeper(Pretrain):
    def compute_loss(self, batch):
        if self.global_step == 2:
            time.sleep(600)
        return super().compute_loss(batch)
"""


def write_sleeper(folder: Path, monkeypatch) -> Path:  # type: ignore[no-untyped-def]
    """A plug-in algorithm that falls asleep in step 3."""
    config = write_config(folder, "pretrain")
    (folder / "lab_sleeper.py").write_text(SLEEPER)
    config.write_text(config.read_text().replace("{name: pretrain}", "{name: sleeper}") + "plugins: [lab_sleeper]\n")
    monkeypatch.syspath_prepend(folder)
    return config


def test_a_hang_ends_the_run_and_says_where(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    config, log = write_sleeper(tmp_path, monkeypatch), tmp_path / "log"
    started = time.monotonic()
    arguments = ["train", str(config), "--name", "hangs", "-o", "training.hang_timeout_seconds=8"]
    assert finish(arguments, log) == 1, log.read_text()
    assert time.monotonic() - started < 120
    run = tmp_path / "experiments" / "hangs"
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "failed" and "hang at step 3" in status["reason"]
    assert "compute_loss" in (run / "logs" / "train.log").read_text()


def test_a_second_signal_exits_at_once(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    config, log = write_sleeper(tmp_path, monkeypatch), tmp_path / "log"
    run = tmp_path / "experiments" / "twice"
    process = start(["train", str(config), "--name", "twice"], log)
    wait_for_rows(run, 2, process)
    time.sleep(0.5)  # asleep in step 3: the first signal has nothing to reach
    os.kill(process.pid, signal.SIGTERM)  # type: ignore[arg-type]
    process.join(1)
    assert process.exitcode is None
    os.kill(process.pid, signal.SIGTERM)  # type: ignore[arg-type]
    process.join(10)
    assert process.exitcode == 128 + signal.SIGTERM


def test_a_slow_step_is_told_once_and_goes_on(tmp_path: Path) -> None:
    hung: list[int] = []
    dog = Watchdog(tmp_path / "log", 60.0, hung.append, floor_seconds=0.1)
    dog.start()
    dog.between_steps(1)
    dog.next_step(0.001)
    time.sleep(0.5)
    dog.stop()
    assert (tmp_path / "log").read_text().count("after step 1; where every thread is") == 1
    assert hung == []


def test_a_chain_of_configs_starts_from_the_earlier_run_and_pins_it(tmp_path: Path) -> None:
    first, log = write_config(tmp_path, "pretrain"), tmp_path / "log"
    first = first.rename(tmp_path / "first.yaml")
    first.write_text(first.read_text().replace("seed: 3", "seed: 3, name: first"))
    second = write_config(tmp_path, "sft")
    text = second.read_text().replace("seed: 3", "seed: 3, name: second")
    second.write_text(
        "\n".join("model: {init_from: run:first@4}" if t.startswith("model") else t for t in text.split("\n"))
    )
    assert finish(["train", str(first), str(second)], log) == 0, log.read_text()
    root = tmp_path / "experiments"
    lineage = json.loads((root / "second" / "metadata.json").read_text())["lineage"]["init_from"]
    assert (lineage["run"], lineage["step"]) == ("first", 4)
    (pin,) = (root / "first" / "checkpoints" / "pins").iterdir()
    assert pin.name.endswith("-step_00000004.json")
    one = json.loads((root / "first" / "checkpoints" / "step_00000004" / "manifest.json").read_text())
    assert lineage["checkpoint"] == one["xxh3"]
    assert finish(["train", str(second), "--name", "third", "-o", "model.init_from=run:first@5"], log) == 2
    assert "no checkpoint of step 5; there are: 2, 4, 6" in log.read_text()
