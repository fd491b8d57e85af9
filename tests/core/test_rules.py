"""The batch rule and renamed keys."""

from __future__ import annotations

import pytest

from ostinato.core.config import ConfigError
from ostinato.core.rules import describe_batch

TEXT = "training:\n  batch_size: 32\n  gradient_accumulation: 4\n"


def test_accumulation_cuts_a_share(project):
    config = project.write(c=TEXT).load()
    assert describe_batch(config.training, 1) == "32 sequences a step = 1 rank x 4 micro-batches x 8"
    assert describe_batch(config.training, 2) == "32 sequences a step = 2 ranks x 4 micro-batches x 4"
    for ranks in (1, 2, 4, 8):
        config.check_ranks(ranks)
    with pytest.raises(ConfigError, match="c.yaml:2:15  training.batch_size: 32 is no multiple of the 3 data-parallel"):
        config.check_ranks(3)


def test_both_must_hold(project):
    config = project.write(c=TEXT + "  micro_batch_size: 8\n").load()
    config.check_ranks(1)
    with pytest.raises(ConfigError, match="is not micro_batch_size 8 x gradient_accumulation 4 x 2 ranks"):
        config.check_ranks(2)


def test_what_no_number_of_ranks_satisfies(project, fails):
    assert fails(TEXT + "  micro_batch_size: 5\n") == [
        "c.yaml:2:15  training.batch_size: 32 is not micro_batch_size 5 x gradient_accumulation 4 "
        "x a whole number of ranks. Give only one of the two."
    ]
    assert "64 is more than batch_size 32" in fails("training:\n  micro_batch_size: 64\n")[0]
    assert "64 is more than batch_size 32" in fails("training:\n  gradient_accumulation: 64\n")[0]
    uneven = project.write(c="training: {batch_size: 10, micro_batch_size: 4}").load().training
    assert describe_batch(uneven, 1) == "10 sequences a step = 1 rank x 3 micro-batches x 4 (the last 2)"


def test_second_spellings_are_silent(project, capsys):
    config = project.write(c="training: {warmup_steps: 100}\nmodel: {path: x}").load()
    assert (config.scheduler.warmup_steps, config.model.init_from) == (100, "x")
    assert capsys.readouterr().err == ""
    assert project.load("b.yaml", "training.warmup_steps=7").scheduler.warmup_steps == 7


def test_old_keys_warn(project, capsys):
    assert project.write(old="training:\n  max_steps: 5\n").load("old.yaml").training.total_steps == 5
    assert capsys.readouterr().err == "warning: old.yaml:2:3  training.max_steps is now training.total_steps\n"
    assert project.load("b.yaml", "training.gradient_accumulation_steps=4").training.gradient_accumulation == 4
    assert "-o training.gradient_accumulation_steps=4  training.gradient_acc" in capsys.readouterr().err


def test_an_old_key_beats_a_base_and_not_its_own_file(project, fails):
    project.write(c="_base_: b.yaml\ntraining: {max_steps: 7}")
    assert project.load().training.total_steps == 7
    (mistake,) = fails("training:\n  max_steps: 5\n  total_steps: 6\n")
    assert mistake == "c.yaml:2:3  training.max_steps: is now training.total_steps, which c.yaml:3 sets too. Keep one."
