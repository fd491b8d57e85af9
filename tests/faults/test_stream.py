"""A run on a stream whose cache holds a part of it: killed and resumed, on one rank and on two, the same bits."""

import os
import random
import re
import signal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tests.faults.processes import finish, result, rows, start, wait_for_rows
from tests.faults.test_ranks import launch, wait_for_step
from tests.training.tiny import write_config

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def streamed(folder: Path, algorithm: str) -> Path:
    """A config that trains on 120 rows in 12 row groups, of which the cache holds about three."""
    config, draw = write_config(folder, algorithm), random.Random(3)

    def words() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randrange(1, 6)))

    if algorithm == "pretrain":
        made: list[dict[str, str]] = [{"text": words() * 9} for _ in range(120)]
    else:
        made = [{"prompt": words(), "response": words()} for _ in range(120)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(made), folder / "web.parquet", row_group_size=10)
    train = f"{{name: stream, path: {folder}/web.parquet, shuffle_groups: 2, cache_gib: 3.0e-6}}"
    config.write_text(re.sub("(?m)^data:.*$", f"data: {{train: {train}, sequence_length: 96}}", config.read_text()))
    return config


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["pretrain", "sft"])
def test_killed_and_resumed_gives_the_same_bits(tmp_path: Path, algorithm: str) -> None:
    config, log = streamed(tmp_path, algorithm), tmp_path / "log"
    whole, killed = tmp_path / "experiments" / "whole", tmp_path / "experiments" / "killed"
    options = ["-o", "training.total_steps=40", "-o", "logging.save_interval=3"]
    assert finish(["train", str(config), "--name", "whole", *options], log) == 0, log.read_text()
    command = ["train", str(config), "--name", "killed", "--resume", *options]
    for pause in (3, 9, 6):
        process = start(command, log)
        wait_for_rows(killed, len(rows(killed)) + pause, process)
        os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        process.join()
    assert finish(command, log) == 0, log.read_text()
    assert result(killed) == result(whole)


@pytest.mark.slow
def test_ranks_share_the_cache_and_the_steps(tmp_path: Path) -> None:
    config, log = streamed(tmp_path, "sft"), tmp_path / "log"
    whole, broken = tmp_path / "experiments" / "whole", tmp_path / "experiments" / "broken"
    assert launch(config, "whole", log).wait(120) == 0, log.read_text()
    process = launch(config, "broken", log)
    wait_for_step(broken, 4, process)
    process.kill()
    process.wait()
    assert launch(config, "broken", log, "--resume").wait(120) == 0, log.read_text()
    assert result(broken) == result(whole)
    assert finish(["train", str(config), "--name", "alone", "-o", "training.total_steps=12"], log) == 0
    steps = [
        [row["data"] for row in rows(tmp_path / "experiments" / name) if row["kind"] == "train"]
        for name in ("alone", "whole")
    ]
    assert steps[0] == steps[1] and len(steps[0]) == 12
