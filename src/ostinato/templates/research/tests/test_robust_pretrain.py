"""The formula by hand; the algorithm in a run, whose gradient does not depend on how a step is cut."""

import json
import subprocess
import sys
from math import log
from pathlib import Path

import pytest
import torch

from {{name}}.algorithms.robust_pretrain import generalised_cross_entropy

CONFIG = Path(__file__).parents[1] / "configs" / "experiments" / "robust_pretrain.yaml"


@pytest.mark.parametrize("q, expected", [(0.0, log(4)), (0.5, 1.0), (1.0, 0.75)])
def test_the_loss_of_a_token_with_probability_a_quarter(q, expected):
    """q 0: -log p; 0.5: (1 - 0.25^0.5) / 0.5 = 1; 1: 1 - 0.25."""
    assert generalised_cross_entropy(torch.tensor([log(0.25)]), q).item() == pytest.approx(expected)


def first_step(folder, *overrides):
    """The metrics of one step on 8 sequences."""
    shorter = ("training.total_steps=1", "training.batch_size=8", "data.train.megabytes=0.1", "training.threads=1")
    options = [part for override in (*shorter, *overrides) for part in ("-o", override)]
    done = subprocess.run(
        [sys.executable, "-m", "ostinato", "train", str(CONFIG), *options], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = (folder / "experiments" / "robust_pretrain" / "logs" / "metrics.jsonl").read_text().splitlines()
    return next(row for row in map(json.loads, rows) if row["kind"] == "train")


def test_its_gradient_does_not_depend_on_the_cut(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = first_step(tmp_path / "whole")
    cut = first_step(tmp_path / "cut", "training.micro_batch_size=2")
    for field in ("loss", "grad_norm", "nll"):
        assert cut[field] == pytest.approx(whole[field], rel=1e-5), field
