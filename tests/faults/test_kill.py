"""Promise 2, for every registered algorithm: SIGKILL at any moment, resume, and the result has the same bits."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.faults.processes import finish, result, rows, start, wait_for_rows
from tests.training.tiny import algorithms, write_config

STEPS = 40
EXTRA = ["-o", f"training.total_steps={STEPS}", "-o", "logging.save_interval=3", "-o", "logging.eval_interval=7"]
DROPOUT = ["-o", "model.dropout=0.1", "-o", "training.micro_batch_size=3", "-o", "training.ema_decay=0.9"]


def train(config: Path, name: str, *more: str) -> list[str]:
    return ["train", str(config), "--name", name, *EXTRA, *DROPOUT, *more]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", algorithms())
def test_killed_twenty_times_and_resumed_gives_the_same_bits(tmp_path: Path, algorithm: str) -> None:
    config, log = write_config(tmp_path, algorithm), tmp_path / "log"
    whole, killed = tmp_path / "experiments" / "whole", tmp_path / "experiments" / "killed"
    assert finish(train(config, "whole"), log) == 0, log.read_text()
    draw = random.Random(algorithm)
    for _ in range(20):
        process = start(train(config, "killed", "--resume"), log)
        already = len(rows(killed))
        wait_for_rows(killed, already + draw.randrange(0, 9), process)
        time.sleep(draw.random() * 0.03)  # anywhere: in a step, a save, a rename, an evaluation
        os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        process.join()
    assert finish(train(config, "killed", "--resume"), log) == 0, log.read_text()
    assert result(killed) == result(whole)
    assert "replayed step" not in log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_and_a_resume_is_exact(tmp_path: Path, number: signal.Signals) -> None:
    config, log = write_config(tmp_path, "pretrain"), tmp_path / "log"
    whole, stopped = tmp_path / "experiments" / "whole", tmp_path / "experiments" / "stopped"
    assert finish(train(config, "whole"), log) == 0, log.read_text()
    process = start(train(config, "stopped"), log)
    wait_for_rows(stopped, 12, process)
    os.kill(process.pid, number)  # type: ignore[arg-type]
    process.join(60)
    assert process.exitcode == 75, log.read_text()
    done = max(row["step"] for row in rows(stopped) if row["kind"] == "train")
    newest = max(int(path.name[5:]) for path in (stopped / "checkpoints").glob("step_????????"))
    assert newest == done < STEPS  # not a step is lost
    assert finish(train(config, "stopped", "--resume"), log) == 0, log.read_text()
    assert result(stopped) == result(whole)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["sft", "grpo"])
def test_runs_of_adapters_are_killed_and_resumed_with_the_same_bits(tmp_path: Path, algorithm: str) -> None:
    config, log = write_config(tmp_path, algorithm), tmp_path / "log"
    whole, killed = tmp_path / "experiments" / "whole", tmp_path / "experiments" / "killed"
    adapter = ["-o", "model.adapter={name: lora, rank: 4, dropout: 0.1}"]
    assert finish(train(config, "whole", *adapter), log) == 0, log.read_text()
    draw = random.Random(algorithm)
    for _ in range(4):
        process = start(train(config, "killed", "--resume", *adapter), log)
        wait_for_rows(killed, len(rows(killed)) + draw.randrange(0, 12), process)
        time.sleep(draw.random() * 0.03)
        os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        process.join()
    assert finish(train(config, "killed", "--resume", *adapter), log) == 0, log.read_text()
    assert result(killed) == result(whole)
    assert any("lora_B" in name for name in result(whole)[1])
