"""Curves of one line, by hand."""

import math

from ostinato.cli.curves import curve
from ostinato.cli.words import changes


def test_a_curve_goes_from_its_lowest_to_its_highest():
    assert curve([0.0, 1.0, 2.0, 7.0]) == "0 ▁▂▃█ 7"
    assert curve([3.0, 3.0]) == "3 ▁▁ 3"
    assert curve([1.0, math.nan, 2.0]) == "1 ▁█ 2"
    assert curve([math.nan]) == "no finite value"


def test_a_long_curve_is_averaged_into_its_width():
    assert curve([0, 2, 4, 6, 8, 10], width=3) == "0 ▁▅█ 10"  # means 1, 5, 9


def test_a_score_is_told_before_and_after_with_its_standard_error():
    train = [{"step": step, "loss": 0.0, "reward/mean": step / 10} for step in (1, 2)]
    held_out = [
        {"step": 0, "validation/reward/mean": 0.5, "validation/reward/standard_error": 0.02},
        {"step": 2, "validation/reward/mean": 0.97, "validation/reward/standard_error": 0.01},
    ]
    assert changes(train, held_out) == [
        "  reward/mean     0.1 ▁█ 0.2",
        "  held out        validation/reward/mean 0.5000 ± 0.0200 -> 0.9700 ± 0.0100 (step 0 -> 2)",
    ]
