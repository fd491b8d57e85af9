"""From a folder that transformers wrote, by the command line: trained, resumed, sampled from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ostinato.data.tokenizer_kinds import byte
from tests.models.family_shapes import theirs
from tests.training.tiny import write_config

pytest.importorskip("transformers")


def call(*words: str, code: int = 0) -> str:
    """What `ostinato words` prints; its error messages where it must end with `code`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "ostinato", *words]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == code, found.stdout + found.stderr
    return found.stdout if code == 0 else found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama3", "gpt2"])
def test_a_run_begins_from_a_folder(tmp_path: Path, family: str) -> None:
    folder = tmp_path / "model"
    theirs(family).save_pretrained(folder)
    byte().with_chat_template("{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}").save(folder)
    text = write_config(tmp_path, "sft").read_text().splitlines()
    model = f"model: {{path: {folder}}}"
    config = tmp_path / "sft.yaml"
    config.write_text("\n".join(model if line.startswith("model") else line for line in text))
    short = ("-o", "data.sequence_length=48", "-o", "tokenizer.name=pretrained")
    call("train", str(config), "--name", "first", *short, "-o", "training.total_steps=2")
    run = tmp_path / "experiments" / "first"
    began = json.loads((run / "metadata.json").read_text())["lineage"]["init_from"]
    assert began["folder"] == str(folder) and len(began["checkpoint"]) == 32
    greedy = ("--prompt", "ab", "--temperature", "0", "--max-new-tokens", "4", "--plain", "--json")
    for source in (folder, run):
        (found,) = json.loads(call("generate", str(source), *greedy))
        assert 0 < len(found["response_ids"]) <= 4
    again = call("runs", "reproduce", "first", "--root", str(run.parent), "--allow-environment-drift", "--current-code")
    assert "bitwise" in again
    config_json = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config_json, "initializer_range": 0.03}))
    told = call("train", str(config), "--name", "first", "--resume", *short, "-o", "training.total_steps=2", code=3)
    assert "no longer what this run began from" in told
