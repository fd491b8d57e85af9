"""The algorithm: its loss by hand, and the two promises, that cuts and interruptions change nothing."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from math import log
from pathlib import Path

import pytest
import torch
from ostinato.core.config import load_config
from ostinato.training.build import build, open_strategy

from {{name}}.algorithms.classify import mixed_cross_entropy

CONFIG = Path(__file__).parents[1] / "configs" / "experiments" / "digits.yaml"
SMALL = ["model.width=8", "model.stages=2", "data.validation.size=30", "training.batch_size=8", "logging.trackers={}"]


def test_mixed_cross_entropy_by_hand():
    """Odds 3:1; two thirds of the first class, one third of the second, no smoothing."""
    logits = torch.tensor([[log(3.0), 0.0], [log(3.0), 0.0]])
    first, second, share = torch.tensor([0, -1]), torch.tensor([1, -1]), torch.tensor([2 / 3, 1.0])
    loss = mixed_cross_entropy(logits, first, second, share, 0.0)
    assert loss.tolist() == pytest.approx([-2 / 3 * log(3 / 4) - 1 / 3 * log(1 / 4), 0.0])


def test_label_smoothing_by_hand():
    """A tenth of the mass is spread over both classes: 0.95 on the right one."""
    logits = torch.tensor([[log(3.0), 0.0]])
    loss = mixed_cross_entropy(logits, torch.tensor([0]), torch.tensor([1]), torch.tensor([1.0]), 0.1)
    assert loss.item() == pytest.approx(-0.95 * log(3 / 4) - 0.05 * log(1 / 4))


def gradient(cut: str) -> torch.Tensor:
    """The gradient of step 1, all of it in one vector."""
    config = load_config(str(CONFIG), [*SMALL, "training.max_grad_norm=null", cut])
    trainer = build(config, open_strategy(config)).trainer
    found = []
    trainer.optimizer.step = lambda *_: found.extend(p.grad.double().flatten() for p in trainer.model.parameters())
    trainer.training_step(trainer.parts.open_loader([]).assemble(1))
    return torch.cat(found)


def test_the_gradient_does_not_depend_on_micro_batches():
    whole = gradient("training.micro_batch_size=null")
    for size in (1, 3):
        found = gradient(f"training.micro_batch_size={size}")
        assert (found - whole).norm() / whole.norm() < 1e-5


def train(root: Path, *more: str, wait: bool = True) -> subprocess.Popen:
    options = [f"experiment.output_root={root}", "training.total_steps=12", "logging.save_interval=3", *SMALL]
    command = [sys.executable, "-m", "ostinato", "train", str(CONFIG), "--resume", *more]
    process = subprocess.Popen([*command, *(part for o in options for part in ("-o", o))], stdout=subprocess.DEVNULL)
    if wait:
        assert process.wait(timeout=120) == 0
    return process


def test_killed_and_resumed_it_is_the_same_run(tmp_path: Path):
    train(tmp_path / "whole")
    process, rows = train(tmp_path / "killed", wait=False), tmp_path / "killed" / "digits" / "logs" / "metrics.jsonl"
    while not (rows.exists() and rows.read_text().count('"kind":"train"') >= 5):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    train(tmp_path / "killed")
    losses = [last_losses(tmp_path / name / "digits") for name in ("whole", "killed")]
    assert losses[0] == losses[1] and len(losses[0]) == 12
    weights = "digits/checkpoints/step_00000012/model/model.safetensors"
    assert (tmp_path / "whole" / weights).read_bytes() == (tmp_path / "killed" / weights).read_bytes()
    with open(tmp_path / "killed" / "digits" / "outputs" / "eval" / "confusion_00000012.csv") as file:
        table = [list(map(int, row[1:])) for row in list(csv.reader(file))[1:]]
    assert sum(map(sum, table)) == 30


def last_losses(folder: Path) -> dict[int, float]:
    """By step; of a step that was done twice the later."""
    rows = [json.loads(line) for line in (folder / "logs" / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if row["kind"] == "train"}
