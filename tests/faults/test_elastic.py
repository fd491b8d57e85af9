"""Elastic numerics: a run whose number of ranks changes at each resume ends with the bits of one that never stopped."""

import signal
from pathlib import Path

import pytest

from tests.faults.processes import finish, result, rows
from tests.faults.test_ranks import launch, wait_for_step
from tests.training.tiny import write_config

ELASTIC = ["training.numerics=elastic", "model.dropout=0.1", "training.mixed_precision=bf16", "training.total_steps=12"]
BOTH = [
    word for option in [*ELASTIC, "training.micro_batch_size=3", "logging.save_interval=2"] for word in ("-o", option)
]


@pytest.mark.slow
def test_the_number_of_ranks_may_change_at_each_resume(tmp_path: Path) -> None:
    config, log = write_config(tmp_path, "sft"), tmp_path / "log"
    whole, changing = tmp_path / "experiments" / "whole", tmp_path / "experiments" / "changing"
    assert finish(["train", str(config), "--name", "whole", *BOTH], log) == 0, log.read_text()

    several = ["-o", "distributed.strategy=ddp", *BOTH]
    for step, ranks in ((2, 2), (5, 4), (8, 2)):
        process = launch(config, "changing", log, "--resume", *several, ranks=ranks)
        wait_for_step(changing, step, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (75, 0), log.read_text()
    assert finish(["train", str(config), "--name", "changing", "--resume", *BOTH], log) == 0, log.read_text()
    assert result(changing) == result(whole)
    events = [row["event"] for row in rows(changing) if row["kind"] == "event"]
    assert "environment_changed" not in events and "replay_mismatch" not in events
    assert len(list((changing / "provenance").glob("segment_*.json"))) > 2


def test_what_elastic_cannot_promise_is_refused(tmp_path: Path) -> None:
    config, log = write_config(tmp_path, "sft"), tmp_path / "log"
    for option, words in (
        ("training.micro_batch_size=null", "training.micro_batch_size: elastic sums by micro-batch"),
        ("training.compile=true", "training.compile: elastic computes as written"),
        ("training.threads=2", "training.threads: elastic computes with 1 thread"),
    ):
        log.write_text("")
        assert finish(["train", str(config), *BOTH, "-o", option], log) == 2
        assert words in log.read_text()
    assert not (tmp_path / "experiments").exists()
