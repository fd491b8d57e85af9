"""The formula of {{component}} by hand; in a run, the gradient does not depend on how a step is cut."""

import json
import subprocess
import sys
from math import log
from pathlib import Path

import pytest
import torch

from {{name}}.algorithms.{{component}} import {{component}}_loss

CONFIG = Path(__file__).parents[1] / "configs" / "experiments" / "{{component}}.yaml"


@pytest.mark.parametrize("gamma, expected", [(0.0, log(4)), (1.0, 0.75 * log(4)), (2.0, 0.5625 * log(4))])
def test_the_loss_of_a_token_with_probability_a_quarter(gamma, expected):
    """(1 - 0.25)^gamma log 4."""
    assert {{component}}_loss(torch.tensor([log(0.25)]), gamma).item() == pytest.approx(expected)


def first_step(folder, *overrides):
    """The metrics of one step."""
    folder.mkdir()
    options = [part for override in ("training.total_steps=1", *overrides) for part in ("-o", override)]
    command = [sys.executable, "-m", "ostinato", "train", str(CONFIG), *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = (folder / "experiments" / "{{component}}" / "logs" / "metrics.jsonl").read_text().splitlines()
    return next(row for row in map(json.loads, rows) if row["kind"] == "train")


def test_its_gradient_does_not_depend_on_the_cut(tmp_path):
    whole = first_step(tmp_path / "whole")
    cut = first_step(tmp_path / "cut", "training.micro_batch_size=1")
    for field in ("loss", "grad_norm", "nll"):
        assert cut[field] == pytest.approx(whole[field], rel=1e-5), field
