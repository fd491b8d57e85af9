"""A run whose data is no text, by the vision template: nothing in it or about it speaks of tokens."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
SHORT = ["training.total_steps=2", "training.batch_size=4", "data.validation.size=6", "logging.samples_interval=1"]


def ostinato(folder, *arguments):
    path = os.pathsep.join(map(str, [folder / "lab" / "src", SOURCE]))
    command = [sys.executable, "-m", "ostinato", *arguments]
    cwd = folder / "lab" if (folder / "lab").is_dir() else folder
    return subprocess.run(command, cwd=cwd, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder above the project, what training said)."""
    folder = tmp_path_factory.mktemp("vision")
    made = ostinato(folder, "new", "project", "own-lab", "--template", "vision", "--to", "lab")
    assert made.returncode == 0, made.stderr
    options = [word for option in SHORT for word in ("-o", option)]
    done = ostinato(folder, "train", "configs/experiments/digits.yaml", *options)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_what_training_says(trained):
    _, said = trained
    assert "samples/s" in said and "token" not in said and "ostinato generate" not in said


def test_what_is_kept(trained):
    run = trained[0] / "lab" / "experiments" / "digits"
    assert json.loads((run / "metadata.json").read_text())["tokenizer"] is None
    model = run / "checkpoints" / "step_00000002" / "model"
    assert sorted(file.name for file in model.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((model / "config.json").read_text())["ostinato"]["inputs"]["vocab_size"] == 0
    table = (run / "outputs" / "eval" / "confusion_00000002.csv").read_text().splitlines()[1:]
    assert sum(int(count) for line in table for count in line.split(",")[1:]) == 6


def test_another_run_starts_from_its_weights(trained):
    words = ["model.name=null", "model.init_from=run:digits", *SHORT]
    options = [word for option in words for word in ("-o", option)]
    done = ostinato(trained[0], "train", "configs/experiments/digits.yaml", "--name", "next", *options)
    assert done.returncode == 0, done.stderr


def test_verbs_of_text_say_what_is_missing(trained):
    done = ostinato(trained[0], "generate", "digits", "--prompt", "x")
    assert done.returncode == 2 and "no tokenizer here" in done.stderr and "Traceback" not in done.stderr
    seen = ostinato(trained[0], "data", "inspect", "configs/experiments/digits.yaml", "--json")
    assert json.loads(seen.stdout)["tokenizer"] is None
    shown = ostinato(trained[0], "data", "show", "configs/experiments/digits.yaml", "--rows", "1").stdout
    assert "trained on: 64 images" in shown and "token" not in shown
