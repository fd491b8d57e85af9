"""A chain as users have it: fine-tuning, then reinforcement learning from it, killed and resumed on the way."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.faults.processes import finish, result, rows, start, wait_for_rows

SFT = """
experiment: {{name: sft, output_root: {folder}, seed: 1}}
model: {{name: transformer, width: 16, layers: 1, heads: 2, tied_embeddings: true, positions: learned}}
tokenizer: {{name: character, added_tokens: ["<|endoftext|>"]}}
data: {{train: {{name: addition, digits: 1, size: 80}}, validation_fraction: 0.2, sequence_length: 12}}
algorithm: {{name: sft}}
training: {{total_steps: 6, batch_size: 16, learning_rate: 1e-2, threads: 1}}
logging: {{save_interval: 2, trackers!: {{}}}}
"""
GRPO = """
experiment: {{name: grpo, output_root: {folder}, seed: 1}}
model: {{init_from: "run:sft"}}
data: {{train: {{name: addition, digits: 1, size: 80}}, validation_fraction: 0.2, sequence_length: 12}}
algorithm: {{name: grpo}}
grpo: {{group_size: 4}}
rewards: {{short: {{name: format, pattern: "[0-9]"}}}}
generation: {{max_new_tokens: 3}}
training: {{total_steps: 12, batch_size: 8, learning_rate: 1e-2, threads: 1}}
evaluation: {{limit: 8}}
logging: {{log_interval: 1, save_interval: 3, eval_interval: 6, eval_at_start: true, samples_interval: 6}}
"""


@pytest.fixture
def configs(tmp_path: Path) -> list[str]:
    for name, text in (("sft", SFT), ("grpo", GRPO)):
        (tmp_path / f"{name}.yaml").write_text(text.format(folder=tmp_path / "runs"))
    return [str(tmp_path / "sft.yaml"), str(tmp_path / "grpo.yaml")]


def test_a_chain_of_configs_runs_goes_on_and_is_done(tmp_path: Path, configs: list[str]) -> None:
    log = tmp_path / "log"
    assert finish(["train", *configs, "--resume"], log) == 0, log.read_text()
    text = log.read_text()
    assert "held out        validation/reward/mean" in text and "(step 0 -> 12)" in text
    assert "ostinato runs samples grpo" in text
    lineage = json.loads((tmp_path / "runs/grpo/metadata.json").read_text())["lineage"]["init_from"]
    assert (lineage["run"], lineage["step"]) == ("sft", 6)
    assert list((tmp_path / "runs/sft/checkpoints/pins").glob("*.json"))  # its retention knows
    assert finish(["train", *configs, "--resume"], log) == 0  # nothing to do, twice
    assert log.read_text().count("is completed") == 2


def test_data_is_shown_with_the_tokenizer_of_the_run_that_it_starts_from(tmp_path: Path, configs: list[str]) -> None:
    log = tmp_path / "log"
    assert finish(["train", configs[0]], log) == 0, log.read_text()
    log.write_text("")
    assert finish(["data", "show", configs[1], "--rows", "1"], log) == 0, log.read_text()
    assert "<|im_start|>" not in log.read_text() and "answer:" in log.read_text()


def test_a_resumed_run_meets_the_reference_that_it_began_with(tmp_path: Path, configs: list[str]) -> None:
    """The origin trains on while the run is down: its newest checkpoint is then another one."""
    log = tmp_path / "log"
    assert finish(["train", *configs], log) == 0, log.read_text()
    killed = ["train", configs[1], "--name", "killed"]
    process = start(killed, log)
    wait_for_rows(tmp_path / "runs" / "killed", 6, process)
    os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
    process.join()
    assert len(rows(tmp_path / "runs" / "killed")) < 12, "it was too quick to be killed"
    folder = tmp_path / "runs" / "sft" / "checkpoints"
    os.rename(folder / "step_00000006", folder / "aside")
    assert finish([*killed, "--resume"], log) != 0  # gone: refused, not another one taken
    assert "has no checkpoint of step 6" in log.read_text()
    os.rename(folder / "aside", folder / "step_00000006")
    assert finish([*killed, "--resume"], log) == 0, log.read_text()
    assert result(tmp_path / "runs" / "killed") == result(tmp_path / "runs" / "grpo")


def test_a_chain_of_adapters_goes_on_and_generates(tmp_path: Path, configs: list[str]) -> None:
    """Fine-tuning of an adapter on a base, reinforcement learning of the same adapter, then what it says."""
    log, runs = tmp_path / "log", tmp_path / "runs"
    adapter = ["-o", "model.adapter={name: lora, rank: 4, targets: [q_proj, v_proj]}"]
    assert finish(["train", configs[0]], log) == 0, log.read_text()
    tuned = ["train", configs[0], "--name", "tuned", *adapter, "-o", "model.init_from=run:sft"]
    tried = ["train", configs[1], "--name", "tried", *adapter, "-o", "model.init_from=run:tuned"]
    options = ["-o", "grpo.kl_coefficient=0.1", "-o", "training.total_steps=2", "-o", "logging.save_interval=1"]
    assert finish(tuned, log) == 0, log.read_text()
    assert finish([*tried, *options], log) == 0, log.read_text()
    counting = [row for row in rows(runs / "tried") if row["kind"] == "train"]
    assert len(counting) == 2 and abs(counting[0]["kl"]) < 1e-6 < counting[1]["kl"]
    own = json.loads((runs / "tried/checkpoints/step_00000002/model/config.json").read_text())["ostinato"]
    assert own["base"]["lineage"]["run"] == "sft"
    for run in ("sft", "tuned"):
        assert len(list((runs / run / "checkpoints/pins").glob("*.json"))) == {"sft": 2, "tuned": 1}[run]
    assert finish(["generate", "tried", "--root", str(runs), "--prompt", "1+1="], log) == 0, log.read_text()
